"""Tiny models with groups written out, in every way that the tests need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from converter.core.data import Array, RuleResult
from converter.core.foreign import Given, KerasLayer, KerasModel, Tensor
from converter.rewrites import equivalence

Slicer = Callable[[Tensor, int, int], list[Tensor]]
Joiner = Callable[[list[Tensor]], Tensor]
WIDTH = 2  # channels of a branch
CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}


class Part(layers.Layer):
    """A user's own slicing layer."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def call(self, x: Tensor) -> Tensor:
        return x[..., self.start : self.stop]


def bound_lambda(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [layers.Lambda(lambda z, c=c: z[..., c * width : (c + 1) * width])(x) for c in range(groups)]


def closed_lambda(x: Tensor, groups: int, width: int) -> list[Tensor]:
    def made(c: int) -> KerasLayer:
        return layers.Lambda(lambda z: z[..., c * width : (c + 1) * width])

    return [made(c)(x) for c in range(groups)]


def late_lambda(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [layers.Lambda(lambda z: z[..., c * width : (c + 1) * width])(x) for c in range(groups)]  # noqa: B023


def lambda_arguments(x: Tensor, groups: int, width: int) -> list[Tensor]:
    def take(z: Tensor, start: int) -> Tensor:
        return z[..., start : start + width]

    return [layers.Lambda(take, arguments={"start": c * width})(x) for c in range(groups)]


def lambda_split(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [layers.Lambda(lambda z, c=c: tf.split(z, groups, axis=-1)[c])(x) for c in range(groups)]


def lambda_split_list(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return list(layers.Lambda(lambda z: tf.split(z, groups, axis=-1))(x))


def lambda_tf_slice(x: Tensor, groups: int, width: int) -> list[Tensor]:
    rank = len(x.shape)

    def take(z: Tensor, start: int) -> Tensor:
        return tf.slice(z, [0] * (rank - 1) + [start], [-1] * (rank - 1) + [width])

    return [layers.Lambda(take, arguments={"start": c * width})(x) for c in range(groups)]


def getitem(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [x[..., c * width : (c + 1) * width] for c in range(groups)]


def getitem_channels_first(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [x[:, c * width : (c + 1) * width] for c in range(groups)]


def ops_split(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return list(ops.split(x, groups, axis=-1))


def ops_take(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [ops.take(x, list(range(c * width, (c + 1) * width)), axis=-1) for c in range(groups)]


def ops_take_backwards(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [ops.take(x, list(range(c * width, (c + 1) * width))[::-1], axis=-1) for c in range(groups)]


def own_layer(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [Part(c * width, (c + 1) * width)(x) for c in range(groups)]


def concatenate_layer(parts: list[Tensor]) -> Tensor:
    return layers.Concatenate(name="joined")(parts)


def concatenate_first(parts: list[Tensor]) -> Tensor:
    return layers.Concatenate(axis=1, name="joined")(parts)


def concatenate_function(parts: list[Tensor]) -> Tensor:
    return layers.concatenate(parts, axis=len(parts[0].shape) - 1)


def concatenate_ops(parts: list[Tensor]) -> Tensor:
    return ops.concatenate(parts, axis=-1)


def concatenate_lambda(parts: list[Tensor]) -> Tensor:
    return layers.Lambda(lambda z: tf.concat(z, axis=-1))(parts)


def concatenate_listed_otherwise(parts: list[Tensor]) -> Tensor:
    return layers.Lambda(lambda z: tf.concat(z[::-1], axis=-1))(parts[::-1])


def concatenate_each_backwards(parts: list[Tensor]) -> Tensor:
    return layers.Lambda(lambda z: tf.concat([part[..., ::-1] for part in z], axis=-1))(parts)


def randomize(model: KerasModel, seed: int = 0) -> KerasModel:
    """`model` with every weight redrawn, biases and BN statistics included; variances stay positive."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        values = generator.standard_normal(variable.shape) * 0.5
        variable.assign(np.abs(values) + 0.5 if variable.path.endswith("variance") else values)
    return model


def grouped_model(
    slicer: Slicer = bound_lambda,
    joiner: Joiner = concatenate_layer,
    *,
    groups: int = 4,
    spatial: tuple[int | None, ...] = (9, 9),
    each: Callable[[int], Given] = lambda c: {},
    **settings: object,
) -> KerasModel:
    """Input, a ReLU, the groups, a ReLU. `each` gives settings of one branch, `settings` those of all.

    A branch reads two channels, and has three filters unless a setting says otherwise.
    """
    channels = groups * WIDTH
    first = settings.get("data_format") == "channels_first"
    inputs = keras.Input((channels, *spatial) if first else (*spatial, channels), name="image")
    x = layers.ReLU(name="before")(inputs)
    options: Given = {"kernel_size": 3, "filters": 3, **settings}
    parts = [
        CONVOLUTIONS[len(spatial)](**{**options, "name": f"block_conv_{c}", **each(c)})(part)
        for c, part in enumerate(slicer(x, groups, WIDTH))
    ]
    outputs = layers.ReLU(name="after")(joiner(parts))
    return randomize(keras.Model(inputs, outputs, name="tiny"))


def sample(model: KerasModel, batch: int = 2, size: int = 9, seed: int = 1) -> Array:
    """A seeded input for a model with one input; dynamic axes get `size`."""
    shape = (batch, *(size if axis is None else axis for axis in model.inputs[0].shape[1:]))
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def numbers(model: KerasModel, x: Array) -> list[Array]:
    """The outputs of the model for `x`, with kernels that every machine has."""
    known = [layer for layer in model.layers if hasattr(layer, "kernel_size")]
    return list(equivalence.run(lambda value: model(value, training=False), [x], known))


def gap(one: KerasModel, other: KerasModel, x: Array) -> float:
    """The relative L2 distance of two models on the same input."""
    return equivalence.distance(numbers(one, x), numbers(other, x))


def kinds(model: KerasModel) -> list[str]:
    """The class names of the calls in a model, bare operations included."""
    return [type(operation).__name__ for operation in model.operations]


def applied(results: Sequence[RuleResult]) -> list[tuple[str, str]]:
    return [(result.rule, result.layer) for result in results if result.applied]


def reasons(results: Sequence[RuleResult]) -> list[str]:
    return [result.reason for result in results if not result.applied]
