"""Weights for untrained models with which a comparison of outputs is meaningful.

With Keras's initial weights a deep classifier gives nearly the same output for every input, so that wrong outputs would
agree too. Here every layer's pre-activation gets unit variance over a batch, one layer after the other in a single
forward pass (layer-sequential unit-variance initialization, Mishkin & Matas, All you need is a good init, ICLR 2016),
and a bias subtracts what all samples have in common. What remains differs between samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers, ops

from zoo.spec import TensorTree

_CONVOLUTIONS: tuple[type, ...] = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.Dense,
)
_HEAD_ACTIVATIONS = (None, keras.activations.linear, keras.activations.softmax, keras.activations.sigmoid)
_JITTER = 0.1  # standard deviation of a bias around its centred value, in units of the layer's output
# A ReLU that clips half of its input makes a deep random network chaotic: rounding of 1e-7 grew to 7e-5 in the logits
# of ResNeXt-50. With a mean of 0.8 standard deviations it clips a fifth, and the noise is below 3e-5.
_OFFSET = 0.8
_POSITIONS = 28  # along an axis, from which the moments of a large map are known well enough
_SMALLEST_SHARE = 1e-4  # of a second moment; a smaller variance is rounding, not a difference between samples

Tensor: TypeAlias = tf.Tensor
Moment: TypeAlias = npt.NDArray[np.float64]
Call: TypeAlias = Callable[..., Tensor]
Rule: TypeAlias = Callable[[keras.layers.Layer, Call, np.random.Generator, Tensor], Tensor]
"""How a layer is calibrated: from the layer, its call, a generator and its input to its output."""


def calibrate(model: keras.Model, inputs: TensorTree, seed: int) -> None:
    """Overwrite all weights of `model`, from `seed` and one eager forward pass over `inputs`.

    `inputs` is what `model` takes (an array, or a list or dict of them), sample axis first; eight samples are enough.
    Every convolution and Dense layer is redrawn; its pre-activation is scaled to variance 1 over the batch, and its
    bias centres each unit: at 0.8 before a nonlinearity, at 0 in a head, plus a small jitter. Logits get a spread of
    about 1. BatchNormalization takes the statistics of its input, gamma from [0.5, 1.5] and beta around 0.8 with
    standard deviation 0.3, so that folding it changes the weights. A layer used several times is calibrated at its
    first use. Other trainable weights are redrawn from `seed` too, around their initial value where that is constant.

    The result depends on the layers' order, not on the state of any global generator. Raises ValueError where a layer
    returns NaN or infinity.
    """
    wrapped: list[keras.layers.Layer] = []
    with _functions_run_eagerly():
        try:
            for index, layer in enumerate(model._flatten_layers()):
                generator = np.random.default_rng([seed, index])
                rule: Rule
                if isinstance(layer, _CONVOLUTIONS):
                    rule = _calibrate_kernel
                elif isinstance(layer, layers.BatchNormalization):
                    rule = _calibrate_normalization
                else:
                    _redraw_others(layer, generator)
                    continue
                wrapped.append(layer)
                layer.call = _first_call(layer, layer.call, rule, generator)
            model(inputs, training=False)
        finally:
            for layer in wrapped:
                del layer.call  # the instance's attribute, so that the class's method is used again


@contextmanager
def _functions_run_eagerly() -> Iterator[None]:
    """Run `tf.function`s eagerly: Keras wraps a grouped convolution in one, which XLA would have to compile."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _first_call(layer: keras.layers.Layer, call: Call, rule: Rule, generator: np.random.Generator) -> Call:
    """`call`, calibrated at its first use with concrete values (a trace has none)."""
    pending = True

    def calibrating(*args: object, **kwargs: object) -> Tensor:
        nonlocal pending
        if not pending or not tf.executing_eagerly():
            return call(*args, **kwargs)
        pending = False
        return rule(layer, lambda: call(*args, **kwargs), generator, next(iter((*args, *kwargs.values()))))

    return calibrating


def _calibrate_kernel(layer: keras.layers.Layer, call: Call, generator: np.random.Generator, _: Tensor) -> Tensor:
    """Redraw the kernels, run the layer once, and derive kernel, bias and output from its pre-activation."""
    bias = layer.bias
    kernels = [weight for weight in layer.weights if weight is not bias]
    for kernel in kernels:
        _assign_normal(kernel, generator, outputs=1 if kernel is kernels[-1] else 2)  # depthwise before pointwise
    if bias is not None:
        bias.assign(ops.zeros(bias.shape, bias.dtype))

    activation = layer.activation
    layer.activation = keras.activations.linear
    try:
        raw = call()
    finally:
        layer.activation = activation

    axis = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else -1
    mean, variance = _moments(layer, raw, axis)
    pooled_mean, total = _pooled(mean, variance)
    centred = float(np.mean(variance))
    if bias is None:
        shift, spread = np.zeros_like(mean), total
    elif centred > _SMALLEST_SHARE * (total + pooled_mean**2):
        shift, spread = mean, centred
    else:  # the samples do not differ, or there is only one: subtract what all units have in common
        shift, spread = np.full_like(mean, pooled_mean), total
    scale = 1.0 / np.sqrt(spread) if spread > 0.0 else 1.0

    kernels[-1].assign(ops.multiply(kernels[-1], ops.cast(scale, kernels[-1].dtype)))
    offset = np.zeros_like(mean)
    if bias is not None:
        head = isinstance(layer, layers.Dense) and activation in _HEAD_ACTIVATIONS
        offset = generator.normal(0.0 if head else _OFFSET, _JITTER, mean.shape) - scale * shift
        bias.assign(offset.reshape(bias.shape))
    shape = [1] * len(raw.shape)
    shape[axis] = -1
    result = raw * ops.cast(scale, raw.dtype) + ops.cast(ops.reshape(offset, shape), raw.dtype)
    return result if activation is None else activation(result)


def _calibrate_normalization(
    layer: keras.layers.Layer, call: Call, generator: np.random.Generator, inputs: Tensor
) -> Tensor:
    """Use the statistics of this batch, and a scale and an offset that show where they are folded wrongly."""
    mean, variance = _moments(layer, inputs, layer.axis)
    pooled_mean, total = _pooled(mean, variance)
    if float(np.mean(variance)) <= _SMALLEST_SHARE * (total + pooled_mean**2):
        mean = np.full_like(mean, pooled_mean)
        variance = np.full_like(variance, total if total > 0.0 else 1.0)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(np.maximum(variance, _SMALLEST_SHARE * np.mean(variance)))
    if layer.gamma is not None:
        layer.gamma.assign(generator.uniform(0.5, 1.5, mean.shape))
    if layer.beta is not None:
        layer.beta.assign(generator.normal(_OFFSET, 0.3, mean.shape))
    return call()


def _redraw_others(layer: keras.layers.Layer, generator: np.random.Generator) -> None:
    """Redraw the trainable weights of any other layer, so that they depend on the generator only."""
    for weight in layer._trainable_variables:
        if not str(weight.dtype).startswith(("float", "bfloat")):
            continue
        value = ops.convert_to_numpy(weight).astype(np.float64)
        if value.size and np.ptp(value) == 0.0:
            weight.assign(value + generator.normal(0.0, _JITTER, value.shape))
        else:
            _assign_normal(weight, generator)


def _assign_normal(weight: keras.Variable, generator: np.random.Generator, outputs: int = 1) -> None:
    """Assign normal values of variance 1 / fan-in; the fan-in is the product of all axes but the last `outputs`."""
    fan_in = max(1, int(np.prod(weight.shape[:-outputs])))
    values = generator.standard_normal(weight.shape, dtype=np.float32)
    values *= np.float32(fan_in**-0.5)
    weight.assign(values)


def _moments(layer: keras.layers.Layer, values: Tensor, axis: int) -> tuple[Moment, Moment]:
    """Mean and biased variance per unit of `axis`, over samples and positions: of large maps every so many-th row and
    column."""
    kept = axis % len(values.shape)
    steps = [1 if place in (0, kept) else max(1, size // _POSITIONS) for place, size in enumerate(values.shape)]
    if max(steps) > 1:
        values = values[tuple(slice(None, None, step) for step in steps)]
    others = [i for i in range(len(values.shape)) if i != kept]
    precise = values if values.dtype == "float64" else ops.cast(values, "float32")
    mean, variance = ops.moments(precise, axes=others)
    mean, variance = (ops.convert_to_numpy(moment).astype(np.float64) for moment in (mean, variance))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError(f"{layer.name}: NaN or Inf while calibrating; check the inputs and the layers before it")
    return mean, variance


def _pooled(mean: Moment, variance: Moment) -> tuple[float, float]:
    """Mean and variance over all units together, by the law of total variance."""
    return float(np.mean(mean)), float(np.mean(variance) + np.var(mean))
