"""Parts of an output with a scale of their own: small ones are not hidden, and correct ones are not rejected."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from converter.core.data import Activation, Golden, TensorSpec
from converter.proof.comparison import compare_outputs
from converter.proof.tolerance import tolerances

Float64 = npt.NDArray[np.float64]
NOISE = 3e-7


def rounded(exact: Float64, rng: np.random.Generator, times: float = 1.0) -> npt.NDArray[np.float32]:
    """`exact` as float32 arithmetic would return it: each value with an error of its own scale."""
    return (exact * (1 + times * NOISE * rng.standard_normal(exact.shape))).astype(np.float32)


def judged(
    exact: Float64, actual: Any, rng: np.random.Generator, activation: Activation = "linear"
) -> tuple[bool, str]:
    spec = {"x": TensorSpec("x", (None, *exact.shape[1:]), activation=activation)}
    reference = {"x": rounded(exact, rng)}
    bounds = tolerances(Golden({}, reference, {"x": exact}, {}), spec)
    (result,) = compare_outputs(reference, {"x": actual.astype(np.float32)}, spec, bounds)
    return result.passed, result.reason


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def boxes_and_scores(rng: np.random.Generator, axis: int = -1) -> Float64:
    """Detections: 4 coordinates up to 640 and 3 scores of about 2e-3 for each of 60 anchors."""
    boxes = rng.uniform(0, 640, (8, 60, 4))
    scores = 1 / (1 + np.exp(6 + 0.3 * rng.standard_normal((8, 60, 3))))
    joined = np.concatenate([boxes, scores], axis=-1)
    return joined if axis == -1 else np.moveaxis(joined, -1, axis)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("factor", [0.7, 0.9, 1.01])
def test_small_scores_beside_large_boxes(axis: int, factor: float, rng: np.random.Generator) -> None:
    exact = boxes_and_scores(rng, axis)
    wrong = exact.copy()
    np.moveaxis(wrong, axis, -1)[..., 4:] *= factor
    assert np.linalg.norm(wrong - exact) < 1e-5 * np.linalg.norm(exact)  # the norm of the whole does not show it
    passed, reason = judged(exact, wrong, rng)
    assert not passed
    assert "of this part" in reason
    assert judged(exact, rounded(exact, rng, 5.0), rng) == (True, "")


def test_one_channel_of_many(rng: np.random.Generator) -> None:
    exact = rng.standard_normal((8, 12, 12, 128))
    exact[..., 5] *= 0.15
    wrong = exact.copy()
    wrong[..., 5] *= 1 + 3e-5
    passed, reason = judged(exact, wrong, rng)
    assert not passed
    assert "index 5" in reason


def test_a_channel_that_should_be_zero(rng: np.random.Generator) -> None:
    exact = rng.standard_normal((8, 12, 12, 16))
    exact[..., 3] = 0.0
    wrong = exact.copy()
    wrong[..., 3] = 1e-4
    assert not judged(exact, wrong, rng)[0]
    fine = rounded(exact, rng, 3.0)
    fine[..., 3] = 1e-8
    assert judged(exact, fine, rng)[0]


def test_a_nearly_dead_channel_is_rounding_error(rng: np.random.Generator) -> None:
    """A ReLU at the boundary: Keras computes 1e-8 in one cell, the artifact 0. That is no fault."""
    exact = np.abs(rng.standard_normal((8, 12, 12, 16)))
    exact[..., 3] = 0.0
    exact[2, 4, 4, 3] = 1e-8
    fine = rounded(exact, rng, 3.0)
    fine[..., 3] = 0.0
    assert judged(exact, fine, rng)[0]


@pytest.mark.parametrize("shape", [(2, 3), (8, 10), (8, 1000), (4, 9, 9, 8), (2, 5, 5, 5, 4), (8, 1)])
@pytest.mark.parametrize("spread", [0, 4])
def test_correct_outputs_are_not_rejected(shape: tuple[int, ...], spread: int, rng: np.random.Generator) -> None:
    """At five times Keras's own rounding error, over scales of up to eight orders of magnitude."""
    for _ in range(30):
        exact = rng.standard_normal(shape) * 10.0 ** rng.integers(-spread, spread + 1, shape[-1])
        reason = judged(exact, rounded(exact, rng, 5.0), rng)[1]
        assert "of this part" not in reason  # a norm of six cells may exceed the limit of the whole by chance


@pytest.mark.parametrize(("classes", "times"), [(4, 5.0), (1000, 5.0)])
def test_correct_probabilities_are_not_rejected(classes: int, times: float, rng: np.random.Generator) -> None:
    def softmax(logits: Float64) -> Float64:
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))

    for _ in range(10):
        logits = rng.standard_normal((8, classes))
        noisy = logits + times * 5e-6 * rng.standard_normal(logits.shape)
        spec = {"x": TensorSpec("x", (None, classes), activation="softmax")}
        reference = {"x": softmax(logits + 5e-6 * rng.standard_normal(logits.shape)).astype(np.float32)}
        bounds = tolerances(Golden({}, reference, {"x": softmax(logits)}, {}), spec)
        (result,) = compare_outputs(reference, {"x": softmax(noisy).astype(np.float32)}, spec, bounds)
        assert "of this part" not in result.reason
