"""Layers that trace otherwise than Keras calls them: the same function, in operators that fold or that every size fits.

A rule looks at one layer and gives the `call` to trace in place of its own, or None. Nothing of a model stays changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from converter.tracing.widening import HALVES

Call = Callable[..., Any]


@contextmanager
def replaced_calls(model: Any, rules: Sequence[Callable[[Any], Call | None]]) -> Iterator[None]:
    """While it lasts, each layer of `model` that one of `rules` knows calls what that gives."""
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


def any_size(layer: Any) -> Call | None:
    """UpSampling2D that interpolates, for sizes that are not known yet; Keras multiplies them as numbers."""
    import keras
    import tensorflow as tf

    if type(layer) is not keras.layers.UpSampling2D:
        return None
    if layer.interpolation == "nearest" or layer.data_format != "channels_last":
        return None
    known = layer.call

    def call(inputs: Any) -> Any:
        if None not in inputs.shape[1:3]:
            return known(inputs)
        sizes = tf.shape(inputs)[1:3] * list(layer.size)
        return tf.cast(tf.image.resize(inputs, sizes, method=layer.interpolation), inputs.dtype)

    return call


def affine(layer: Any) -> Call | None:
    """A batch normalization over the last axis as `x * scale + shift` instead of some twenty operators.

    Ioffe and Szegedy (2015), inference: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale, here in
    float64 and rounded once.
    """
    import keras
    import tensorflow as tf

    if type(layer) is not keras.layers.BatchNormalization or not layer.built:
        return None
    rank = layer.input_spec.ndim or len(layer.input_spec.shape or ())
    if layer.compute_dtype not in ("float32", *HALVES) or layer.axis not in (-1, rank - 1):
        return None
    mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, np.float64)
    shift = -mean * scale
    if layer.center:
        shift = shift + np.asarray(layer.beta, np.float64)
    factor, summand = scale.astype(np.float32), shift.astype(np.float32)

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return tf.add(tf.multiply(tf.cast(inputs, tf.float32), factor), summand)

    return call
