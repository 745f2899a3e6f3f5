"""Layers that are traced with another `call` than Keras's: the same function in operators that fold or take any size.

A rule gets one layer and returns the `call` to trace, or None. The model itself is unchanged afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from converter.core.foreign import KerasLayer, KerasModel, Tensor
from converter.tracing.widening import OTHERS

Call = Callable[..., Tensor]
"""A layer's `call`"""

Rule = Callable[[KerasLayer], Call | None]

Pair = tuple[Tensor, Tensor]
"""What Keras's own `call` returned, and what that of a rule returned"""


@contextmanager
def replaced_calls(model: KerasModel, rules: Sequence[Rule]) -> Iterator[None]:
    """Within the context, each layer of `model` for which a rule returns a `call` uses it; the first such rule wins."""
    changed = []
    flatten = getattr(model, "_flatten_layers", None)
    for layer in flatten() if flatten else ():
        if "call" in layer.__dict__:
            continue
        call = next((found for rule in rules if (found := rule(layer)) is not None), None)
        if call is not None:
            layer.__dict__["call"] = call
            changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.__dict__["call"]


def beside(rule: Rule, pairs: list[Pair]) -> Rule:
    """`rule` for layers of one tensor, but with Keras's own `call`: what the rule computes is in `pairs` only."""

    def both(layer: KerasLayer) -> Call | None:
        other, own = rule(layer), layer.call
        if other is None:
            return None

        def call(inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
            result = own(inputs, training=training, mask=mask)
            pairs.append((result, other(inputs, training=training, mask=mask)))
            return result

        return call

    return both


def any_size(layer: KerasLayer) -> Call | None:
    """An UpSampling2D with interpolation, for an unknown height or width: Keras computes the new size in Python.

    Shapes are (batch, height, width, channels). None for other layers, "nearest" and channels-first data.
    """
    import keras
    import tensorflow as tf

    if type(layer) is not keras.layers.UpSampling2D:
        return None
    if layer.interpolation == "nearest" or layer.data_format != "channels_last":
        return None
    original = layer.call

    def call(inputs: Tensor) -> Tensor:
        if None not in inputs.shape[1:3]:
            return original(inputs)
        sizes = tf.shape(inputs)[1:3] * list(layer.size)
        return tf.cast(tf.image.resize(inputs, sizes, method=layer.interpolation), inputs.dtype)

    return call


def affine(layer: KerasLayer) -> Call | None:
    """A batch normalization over the last axis as `x * scale + shift`, which replaces about twenty operators.

    Ioffe and Szegedy (2015), inference: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale. Both
    are computed in float64 and rounded to float32 once. None for other layers, axes and types.
    """
    import keras
    import tensorflow as tf

    if type(layer) is not keras.layers.BatchNormalization or not layer.built:
        return None
    rank = layer.input_spec.ndim or len(layer.input_spec.shape or ())
    if layer.compute_dtype not in ("float32", *OTHERS) or layer.axis not in (-1, rank - 1):
        return None
    mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, np.float64)
    shift = -mean * scale
    if layer.center:
        shift = shift + np.asarray(layer.beta, np.float64)
    factor, summand = scale.astype(np.float32), shift.astype(np.float32)

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        return tf.add(tf.multiply(tf.cast(inputs, tf.float32), factor), summand)

    return call


def all_steps(layer: KerasLayer) -> Call | None:
    """A TimeDistributed as one call of its layer: the steps of all samples, shape (batch * steps, ...), are its batch.

    Keras calls the layer once for each step of a known number; of an unknown number, 3.15 computes as many steps as the
    batch has samples. None for other layers.
    """
    import keras
    import tensorflow as tf

    if type(layer) is not keras.layers.TimeDistributed:
        return None
    inner = layer.layer

    def merged(tensor: Tensor, axes: int) -> Tensor:
        sizes = [tensor.shape[axis] or tf.shape(tensor)[axis] for axis in range(axes, len(tensor.shape))]
        return tf.reshape(tensor, [-1, *sizes])

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        arguments: dict[str, object] = {"training": False} if inner._call_has_training_arg else {}
        if inner._call_has_mask_arg and mask is not None:
            arguments["mask"] = merged(mask, 2)
        outputs = inner.call(merged(inputs, 2), **arguments)
        sizes = [inputs.shape[axis] if inputs.shape[axis] is not None else tf.shape(inputs)[axis] for axis in (0, 1)]
        if inputs.shape[0] is None and inputs.shape[1] is not None:
            sizes[0] = -1
        rest = [outputs.shape[axis] or tf.shape(outputs)[axis] for axis in range(1, len(outputs.shape))]
        return tf.reshape(outputs, [*sizes, *rest])

    return call
