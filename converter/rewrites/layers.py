"""Layers made from other layers: the same settings with a few changes, and the arrays of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converter.core.data import Array
from converter.core.foreign import KerasLayer, KerasObject, KerasOperation, KerasVariable

Shape = Sequence[int | None]

# Settings that are objects. They are passed on as they are: a user's activation may not be serialisable.
_OBJECTS = ("activation", "_initializer", "_regularizer", "_constraint")


def renew(
    layer: KerasLayer, shape: Shape | Sequence[Shape], changes: Mapping[str, object], weights: Sequence[Array]
) -> KerasLayer:
    """A layer of the same class and settings as `layer`, except for `changes`, built for `shape` with `weights`.

    `shape` is one input shape, batch first, or a list of several. `trainable`, dtype policy, activation, initializers,
    regularizers and constraints are those of `layer`. Raises ValueError where the weights do not fit.
    """
    config = dict(layer.get_config())
    objects = [key for key in config if key.endswith(_OBJECTS) and key not in changes]
    config.update({key: "zeros" if key.endswith("_initializer") else None for key in objects})
    config.update(changes)
    new = type(layer).from_config(config)
    for key in objects:
        setattr(new, key, getattr(layer, key))
    new.build(shape if isinstance(shape, list) and isinstance(shape[0], tuple) else tuple(shape))
    new.set_weights(list(weights))
    new.trainable = layer.trainable
    return new


def setting(layer: KerasLayer, key: str) -> KerasObject:
    """A setting of `layer` in a form that can be compared: objects by class and configuration, without their names."""
    value: KerasObject = getattr(layer, key, None)
    if hasattr(value, "get_config"):
        return (type(value), {item: entry for item, entry in value.get_config().items() if item != "name"})
    return value


def altered_weights(layer: KerasLayer) -> str:
    """Why the arrays of `layer` are not the plain ones that its class describes, "" where they are."""
    if getattr(layer, "lora_enabled", False):
        return "it carries LoRA weights: merge them first"
    if getattr(layer, "quantization_mode", None):
        return f"its weights are quantized ({layer.quantization_mode})"
    return ""


def array(variable: KerasVariable) -> Array:
    """The value of a Keras variable, in its own dtype."""
    return np.asarray(variable.numpy())


def channel_axis(data_format: str | None) -> int:
    """The axis of the channels: 1 for "channels_first", else -1."""
    return 1 if data_format == "channels_first" else -1


def needs_xla(layer: KerasOperation) -> bool:
    """Whether TensorFlow's CPU kernels lack this convolution, so that only XLA can run it.

    Measured with TensorFlow 2.21: convolutions with channels first, and grouped ones in three dimensions.
    """
    if not hasattr(layer, "kernel_size"):
        return False
    grouped = getattr(layer, "groups", 1) > 1
    return getattr(layer, "data_format", None) == "channels_first" or (grouped and getattr(layer, "rank", 0) == 3)
