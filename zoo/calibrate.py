"""Weights for untrained models with which a comparison of outputs is meaningful.

With Keras's initial weights a deep classifier gives nearly the same output for every input, so that wrong outputs would
agree too. Here every layer's pre-activation gets unit variance over a batch, one layer after the other in a single
forward pass (layer-sequential unit-variance initialization, Mishkin & Matas, All you need is a good init, ICLR 2016),
and a bias subtracts what all samples have in common. What remains differs between samples.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers, ops

from zoo import statistics_cache
from zoo.drawing import CONVOLUTIONS, Draws, Kernels, Pending, drawing, kernels_of, normal, shared
from zoo.spec import TensorTree

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
    pending = _pending(model, seed)
    with drawing(pending) as draws:
        _measure(model, inputs, pending, draws)


def calibrate_again(model: keras.Model, inputs: TensorTree, seed: int) -> None:
    """`calibrate`, without the forward pass where what it measures is in the user's cache; the weights are the same.

    Only a model whose layers are all Keras's own is looked up. Raises ValueError as `calibrate` does.
    """
    name = _name(model, inputs, seed)
    known = statistics_cache.read(name) if name else None
    pending = _pending(model, seed)
    if known is not None and _fits(known, pending):
        pending = [each for each in pending if each.index in known]
        with drawing(pending) as draws:
            for each in pending:
                _settle(each, known[each.index], draws.take(each) if isinstance(each.layer, CONVOLUTIONS) else [])
        return
    with drawing(pending) as draws:
        found = _measure(model, inputs, pending, draws)
    if name:
        statistics_cache.write(name, found)


def _pending(model: keras.Model, seed: int) -> list[Pending]:
    """The layers to calibrate; all other weights are redrawn."""
    found = []
    for index, layer in enumerate(model._flatten_layers()):
        generator = np.random.default_rng([seed, index])
        if isinstance(layer, (*CONVOLUTIONS, layers.BatchNormalization)):
            found.append(Pending(layer, index, generator))
        else:
            _redraw_others(layer, generator)
    return found


def _name(model: keras.Model, inputs: TensorTree, seed: int) -> str:
    """A digest of all that the result of `calibrate` depends on; "" if a layer is not Keras's own, or is a Lambda."""
    own = all(type(each).__module__.startswith("keras.") for each in model._flatten_layers(include_self=False))
    if not own or any(isinstance(each, layers.Lambda) for each in model._flatten_layers()):
        return ""
    versions = [keras.__version__, tf.__version__, np.__version__, platform.machine(), str(seed)]
    try:
        described = model.to_json()
    except (TypeError, ValueError, NotImplementedError):
        return ""
    kept = [
        ops.convert_to_numpy(weight)  # what a layer was given besides its configuration
        for layer in model._flatten_layers()
        if not isinstance(layer, (*CONVOLUTIONS, layers.BatchNormalization))
        for weight in layer._non_trainable_variables
        if str(weight.dtype).startswith("float")
    ]
    code = [Path(__file__).with_name(each).read_bytes() for each in ("calibrate.py", "drawing.py")]
    arrays = [np.ascontiguousarray(array).tobytes() for array in (*keras.tree.flatten(inputs), *kept)]
    parts = [*code, " ".join(versions).encode(), described.encode(), *arrays]
    return statistics_cache.digest(parts)


def _fits(known: Mapping[int, statistics_cache.Moments], pending: Sequence[Pending]) -> bool:
    """Whether `known` has moments of as many units as the layers have, and of no other layer."""
    units = {each.index: _units(each.layer) for each in pending}
    return bool(known) and all(len(mean) == units.get(index) for index, (mean, _) in known.items())


def _units(layer: keras.layers.Layer) -> int:
    if isinstance(layer, layers.BatchNormalization):
        return int(layer.moving_mean.shape[0])
    count = getattr(layer, "units", None) or getattr(layer, "filters", None)
    if count is None:  # a depthwise convolution
        *_, channels, multiplier = layer.kernel.shape
        count = channels * multiplier
    return int(count)


def _measure(
    model: keras.Model, inputs: TensorTree, pending: Sequence[Pending], draws: Draws
) -> dict[int, statistics_cache.Moments]:
    """Calibrate the layers in one forward pass; returns the moments of each by its index."""
    found: dict[int, statistics_cache.Moments] = {}
    wrapped = []
    with _functions_run_eagerly():
        try:
            for each in pending:
                wrapped.append(each.layer)
                each.layer.call = _first_call(each, each.layer.call, found, draws)
            model(inputs, training=False)
        finally:
            for layer in wrapped:
                del layer.call  # the instance's attribute, so that the class's method is used again
    return found


@contextmanager
def _functions_run_eagerly() -> Iterator[None]:
    """Run `tf.function`s eagerly: Keras wraps a grouped convolution in one, which XLA would have to compile."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _first_call(pending: Pending, call: Call, found: dict[int, statistics_cache.Moments], draws: Draws) -> Call:
    """`call`, calibrated at its first use with concrete values (a trace has none)."""

    def calibrating(*args: object, **kwargs: object) -> Tensor:
        if pending.index in found or not tf.executing_eagerly():
            return call(*args, **kwargs)
        layer = pending.layer
        if isinstance(layer, layers.BatchNormalization):
            found[pending.index] = _moments(layer, next(iter((*args, *kwargs.values()))), layer.axis)
            _settle(pending, found[pending.index], [])
            return call(*args, **kwargs)
        kernels = draws.take(pending)
        for variable, values in zip(kernels_of(layer), kernels, strict=True):
            variable.assign(values)
        if layer.bias is not None:
            layer.bias.assign(ops.zeros(layer.bias.shape, layer.bias.dtype))
        activation = layer.activation
        layer.activation = keras.activations.linear
        try:
            raw = call(*args, **kwargs)
        finally:
            layer.activation = activation
        axis = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else -1
        found[pending.index] = _moments(layer, raw, axis)
        scale, offset = _settle(pending, found[pending.index], kernels)
        shape = [1] * len(raw.shape)
        shape[axis] = -1
        result = raw * ops.cast(scale, raw.dtype) + ops.cast(ops.reshape(offset, shape), raw.dtype)
        return result if activation is None else activation(result)

    return calibrating


def _settle(pending: Pending, moments: statistics_cache.Moments, kernels: Kernels) -> tuple[float, Moment]:
    """Give a layer the weights that its moments require; returns the scale of its kernel, and its bias.

    `kernels` are its drawn ones, and are changed.
    """
    if isinstance(pending.layer, layers.BatchNormalization):
        _settle_normalization(pending.layer, pending.generator, moments)
        return 1.0, moments[0]
    layer, (mean, variance) = pending.layer, moments
    pooled_mean, total = _pooled(mean, variance)
    centred = float(np.mean(variance))
    if layer.bias is None:
        shift, spread = np.zeros_like(mean), total
    elif centred > _SMALLEST_SHARE * (total + pooled_mean**2):
        shift, spread = mean, centred
    else:  # the samples do not differ, or there is only one: subtract what all units have in common
        shift, spread = np.full_like(mean, pooled_mean), total
    scale = 1.0 / np.sqrt(spread) if spread > 0.0 else 1.0
    for variable, values in zip(kernels_of(layer), kernels, strict=True):
        if values is kernels[-1] and variable.dtype == "float32":
            values *= np.float32(scale)
        variable.assign(shared(values) if variable.dtype == "float32" else values)
    if kernels_of(layer)[-1].dtype != "float32":
        variable.assign(ops.multiply(variable, ops.cast(scale, variable.dtype)))
    offset = np.zeros_like(mean)
    if layer.bias is not None:
        head = isinstance(layer, layers.Dense) and layer.activation in _HEAD_ACTIVATIONS
        offset = pending.generator.normal(0.0 if head else _OFFSET, _JITTER, mean.shape) - scale * shift
        layer.bias.assign(offset.reshape(layer.bias.shape))
    return scale, offset


def _settle_normalization(
    layer: keras.layers.Layer, generator: np.random.Generator, moments: statistics_cache.Moments
) -> None:
    """Use the statistics of this batch, and a scale and an offset that show where they are folded wrongly."""
    mean, variance = moments
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


def _redraw_others(layer: keras.layers.Layer, generator: np.random.Generator) -> None:
    """Redraw the trainable weights of any other layer, so that they depend on the generator only."""
    for weight in layer._trainable_variables:
        if not str(weight.dtype).startswith(("float", "bfloat")):
            continue
        value = ops.convert_to_numpy(weight).astype(np.float64)
        if value.size and np.ptp(value) == 0.0:
            weight.assign(value + generator.normal(0.0, _JITTER, value.shape))
        else:
            weight.assign(normal(generator, tuple(weight.shape)))


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
