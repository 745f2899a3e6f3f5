"""Float64 of large kernels: column by column the same sums, and each kernel cast only when its input is there."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from converter.tracing import pieces
from converter.tracing.running import running
from converter.tracing.signature import describe
from converter.tracing.trace import trace


def net(columns: int) -> Any:
    given = keras.Input((20,), name="given")
    x = layers.Dense(columns, activation="relu", name="first")(given)
    shared = layers.Dense(columns, name="shared")  # its kernel has two readers
    return keras.Model(given, layers.Dense(3, name="last")(shared(shared(x))), name="net")


@pytest.mark.parametrize("columns", [1, 7, 64])
def test_pieces_of_a_product_are_the_product(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(columns)
    model = net(columns)
    signature = describe(model)
    traced = trace(model, signature, fold=False)
    inputs = {"given": np.random.default_rng(0).standard_normal((3, 20), dtype=np.float32)}
    name = next(each for each in traced.weights if each.startswith("first/"))
    changed = {name: traced.weights[name] * np.float32(2)}
    results = []
    for size in (1 << 30, 200):
        monkeypatch.setattr(pieces, "PIECE", size)
        with running(traced, signature, double=True) as run:
            results.append([run(inputs)[0]["last"], run(inputs, changed)[0]["last"]])
            kinds = {operation.type for operation in run.session.graph.get_operations()}
            assert ("ConcatV2" in kinds) is (size == 200 and columns * 80 > 200)
    for whole, split in zip(*results, strict=True):
        assert whole.dtype == split.dtype == np.float64
        np.testing.assert_allclose(split, whole, rtol=1e-12)
    assert not np.allclose(*results[0])


def test_a_kernel_is_cast_when_its_input_is_there() -> None:
    model = net(8)
    signature = describe(model)
    traced = trace(model, signature, fold=False)
    with running(traced, signature, double=True) as run:
        operations = run.session.graph.get_operations()
        waiting = {
            each.name: [given.name for given in each.control_inputs] for each in operations if each.type == "Cast"
        }
    last = next(name for name in waiting if name.startswith("last/"))
    assert len(waiting[last]) == 1, waiting
    assert "shared" in waiting[last][0]
