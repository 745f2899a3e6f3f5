"""How many samples a model is compared on, from the time of an inference; and which wrong answers are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from converter.core.data import Array, Arrays, TensorSpec
from converter.core.effort import FEWEST, MOST, Effort
from converter.tracing import rounding
from converter.tracing.wrong_answers import Subject, wrong_answers


@pytest.mark.parametrize(("one", "expected"), [(0.0, MOST), (0.04, MOST), (0.06, 4), (0.2, FEWEST), (60.0, FEWEST)])
def test_a_heavy_model_is_compared_on_fewer_samples(one: float, expected: int) -> None:
    assert Effort().chosen(one) == expected
    assert Effort(samples=20).chosen(one) == 20
    assert Effort(seconds=1e9).chosen(one) == MOST


def test_few_values_need_more_samples_in_float64() -> None:
    effort = Effort()
    assert effort.exact(0.01, cells=1000, samples=8) == 2
    assert effort.exact(0.01, cells=3, samples=8) == 8
    assert effort.exact(0.3, cells=3, samples=3) == 3
    assert effort.exact(0.1, cells=100_000, samples=4) == 2
    assert effort.exact(2.0, cells=100_000, samples=3) == 1
    assert Effort(samples=20).exact(0.001, cells=1, samples=20) == 20


def test_the_forecast_grows_with_the_samples() -> None:
    effort = Effort(samples=10_000)
    assert effort.forecast(10_000, 0.1) > 100 * effort.forecast(8, 0.1)


KERNELS = {f"layer{number}/kernel": np.full((2, 4), 1.0, np.float32) for number in range(7)}


def asked(effects: Mapping[str, float], needed: float = 1e-5) -> tuple[dict[str, dict[str, Array]], list[str]]:
    """The controls of a model whose output moves by `effects` of a changed kernel, and the kernels that were tried."""
    tried: list[str] = []

    def answer(inputs: Arrays, changed: Mapping[str, Array]) -> dict[str, Array]:
        size = 0.0
        for name, array in changed.items():
            tried.append(name)
            size = effects.get(name, 0.0) * float(np.abs(array - KERNELS[name]).max() / 1e-3)
        return {"y": np.array([[1.0 + size], [1.0 + size]], np.float32)}

    subject = Subject(
        answer=answer,
        inputs={"x": np.zeros((2, 4), np.float32)},
        specs=[TensorSpec("x", (None, 4))],
        reference={"y": np.ones((2, 1), np.float32)},
        kernels=KERNELS,
        effect=lambda name, one, other: float(np.abs(one - other).max()),
        needed={"y": needed},
    )
    return wrong_answers(subject), tried


def test_one_kernel_is_enough_where_it_is_clearly_noticed() -> None:
    controls, tried = asked({"layer3/kernel": 1e-3})
    assert tried == ["layer3/kernel"]
    assert list(controls) == ["kernel-scaled-1.001 layer3/kernel"]


def test_the_largest_effect_of_all_depths_counts() -> None:
    controls, tried = asked({"layer3/kernel": 2e-6, "layer0/kernel": 2e-5})
    assert set(tried) >= {"layer0/kernel", "layer3/kernel", "layer6/kernel"}
    assert list(controls) == ["kernel-scaled-1.001 layer0/kernel"]


def test_a_zeroed_filter_takes_the_place_of_a_scaled_one() -> None:
    controls, _ = asked({"layer5/kernel": 1e-8}, needed=5e-6)
    assert list(controls)[-1] == "kernel-zeroed layer5/kernel"


def test_nothing_is_invented_where_no_weight_matters() -> None:
    assert asked({})[0] == {}


def test_preparing_a_session_is_not_the_time_of_an_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph with loops takes 0.4 s before its first inference at a batch size; then it takes milliseconds."""
    given = {"x": np.zeros((2, 3), np.float32)}
    clock = iter((0.0, 0.4, 1.0, 1.004))  # of two runs, their beginning and end
    monkeypatch.setattr(rounding, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    class Run:
        signature = SimpleNamespace(inputs=(TensorSpec("x", (None, 3)),))

        def __call__(self, inputs: Arrays) -> tuple[Arrays, list[Array]]:
            return {"y": inputs["x"]}, []

    outputs, seconds = rounding._alone(cast("rounding.Runner", Run()), given)
    assert outputs["y"].shape == (2, 3)
    assert seconds < 0.2
    assert Effort().chosen(seconds) == MOST
