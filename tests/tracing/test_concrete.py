"""The two graphs of one trace are those of two traces."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest

from converter.tracing.concrete import concrete, traced_once
from converter.tracing.signature import describe
from converter.tracing.trace import trace

layers = keras.layers


@keras.saving.register_keras_serializable("tests")
class Counted(layers.Layer):
    """Counts how often its Python code runs."""

    calls = 0

    def call(self, inputs: Any) -> Any:
        Counted.calls += 1
        return inputs * 1.5


def convolution() -> keras.Model:
    inputs = layers.Input((8, 8, 3))
    return keras.Model(inputs, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))))


def output() -> keras.Model:
    """A normalization that is the output itself, without the scale or the offset."""
    inputs = layers.Input((8, 8, 3))
    return keras.Model(
        inputs, [layers.BatchNormalization(scale=False)(inputs), layers.BatchNormalization(center=False)(inputs)]
    )


def shared() -> keras.Model:
    inputs, same = layers.Input((8, 8, 3)), layers.BatchNormalization()
    return keras.Model(inputs, layers.Add()([same(inputs), same(layers.Conv2D(3, 3, padding="same")(inputs))]))


def nested() -> keras.Model:
    inputs = layers.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(convolution()(inputs))))


def steps() -> keras.Model:
    inputs = layers.Input((5, 8, 3))
    return keras.Model(inputs, layers.TimeDistributed(layers.BatchNormalization())(inputs))


def channels_first() -> keras.Model:
    """Which is not folded."""
    inputs = layers.Input((3, 8, 8))
    return keras.Model(inputs, layers.BatchNormalization(axis=1)(inputs))


def half() -> keras.Model:
    inputs = layers.Input((8, 8, 3))
    made = layers.BatchNormalization(dtype="mixed_float16")(layers.Conv2D(4, 3, dtype="mixed_float16")(inputs))
    return keras.Model(inputs, layers.Activation("linear", dtype="float32")(made))


def in_a_loop() -> keras.Model:
    """A normalization that runs in each step of a loop: its graph is not that of the model."""

    class Cell(layers.Layer):
        state_size, output_size = 3, 3

        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.BatchNormalization()

        def build(self, shape: Any) -> None:
            self.inner.build(shape)

        def call(self, inputs: Any, states: Any) -> Any:
            result = self.inner(inputs) + states[0]
            return result, [result]

    inputs = layers.Input((40, 3))
    return keras.Model(inputs, layers.RNN(Cell())(inputs))


MODELS = [convolution, output, shared, nested, steps, channels_first, half, in_a_loop]


def seeded(build: Any) -> keras.Model:
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    model = build()
    generator = np.random.default_rng(5)
    for weight in model.weights:
        weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    return model


def graphs(model: keras.Model) -> list[Any]:
    signature = describe(model)
    return [trace(model, signature, fold=False), trace(model, signature)]


def nodes(traced: Any) -> list[str]:
    """Those of the graph and of its functions, without the numbers that TensorFlow counts up in a process."""
    inside = [node for function in traced.graph_def.library.function for node in function.node_def]
    return sorted(re.sub(r"function_\w+|_(cond|body)_\d+", "", str(node)) for node in (*traced.graph_def.node, *inside))


@pytest.mark.parametrize("build", MODELS)
def test_one_trace_has_the_graphs_of_two(build: Any) -> None:
    model = seeded(build)
    apart = graphs(model)
    with traced_once():
        together = graphs(model)
    for one, other in zip(apart, together, strict=True):
        assert nodes(one) == nodes(other)
        assert one.weights.keys() == other.weights.keys()
        assert all(np.array_equal(array, other.weights[name]) for name, array in one.weights.items())
        assert one.outputs == other.outputs


def test_the_code_of_a_layer_runs_once() -> None:
    inputs = layers.Input((8, 8, 3))
    model = keras.Model(inputs, layers.BatchNormalization()(Counted()(inputs)))
    Counted.calls = 0
    with traced_once():
        graphs(model)
    assert Counted.calls == 1
    graphs(model)
    assert Counted.calls == 3


def test_models_and_shapes_are_told_apart() -> None:
    one, other = seeded(convolution), convolution()
    with traced_once():
        first = concrete(one, describe(one), fold=True)
        assert concrete(one, describe(one), fold=False) is first
        assert concrete(other, describe(other), fold=True) is not first
        assert concrete(one, describe(one).with_batch(2), fold=True) is not first
    assert concrete(one, describe(one), fold=True) is not first
