"""Grouped convolutions while a model is trained on a CPU.

TensorFlow has no gradient of a grouped convolution on a CPU, so Keras compiles each one with XLA, which takes a second
for sixty small images. Here each of them is computed as one ordinary convolution whose kernel has zeros between the
groups: the same numbers, and a gradient that ordinary kernels have. It costs as many multiplications as a convolution
without groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from converter.core.foreign import KerasLayer, KerasModel, Tensor

_METHOD = "convolution_op"


@contextmanager
def dense_groups(model: KerasModel) -> Iterator[int]:
    """Within the context, the grouped convolutions of `model` are trainable on a CPU; yields how many there are."""
    import keras

    found = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D)
        and layer.groups > 1
        and layer.data_format == "channels_last"
    ]
    for layer in found:
        vars(layer)[_METHOD] = partial(_convolution, layer)
    try:
        yield len(found)
    finally:
        for layer in found:
            vars(layer).pop(_METHOD, None)


def _convolution(layer: KerasLayer, inputs: Tensor, kernel: Tensor) -> Tensor:
    from keras import ops

    return ops.conv(
        inputs,
        spread(kernel, layer.groups),
        strides=list(layer.strides),
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


def spread(kernel: Tensor, groups: int) -> Tensor:
    """The kernel (..., inputs / groups, outputs) as one over all inputs, with zeros between the groups."""
    from keras import ops

    *size, narrow, outputs = kernel.shape
    owner = np.repeat(np.arange(groups), narrow)[:, None] == np.repeat(np.arange(groups), outputs // groups)[None, :]
    whole = ops.tile(kernel, [1] * len(size) + [groups, 1])
    return whole * ops.cast(owner, whole.dtype)
