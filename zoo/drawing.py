"""The kernels of a calibration, drawn from the seed on threads while the layers before them are measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

CONVOLUTIONS: tuple[type, ...] = (
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
_ALIGNMENT = 64  # bytes, of TensorFlow's own arrays
_THREADS = min(4, os.cpu_count() or 1)
_AHEAD = 512 << 20  # bytes of kernels that are drawn before their layers are reached
Kernels: TypeAlias = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Pending:
    """A layer to calibrate, its `index` among all layers, and its generator."""

    layer: keras.layers.Layer
    index: int
    generator: np.random.Generator


class Draws:
    """The kernels of layers, drawn on threads ahead of their use: `AHEAD` bytes of them at most, or one layer."""

    def __init__(self, pending: Sequence[Pending], pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.waiting = {each.index: each for each in pending if isinstance(each.layer, CONVOLUTIONS)}
        self.drawn: dict[int, Future[Kernels]] = {}
        self.sizes: dict[int, int] = {}
        self._draw_ahead()

    def take(self, pending: Pending) -> Kernels:
        """Normal values of variance 1 / fan-in for each kernel of a layer; once for each layer."""
        if pending.index not in self.drawn:
            self._draw(self.waiting.pop(pending.index))
        values = self.drawn.pop(pending.index).result()
        del self.sizes[pending.index]
        self._draw_ahead()
        return values

    def _draw_ahead(self) -> None:
        while self.waiting:
            following = next(iter(self.waiting.values()))
            size = sum(4 * int(np.prod(kernel.shape)) for kernel in kernels_of(following.layer))
            if self.sizes and sum(self.sizes.values()) + size > _AHEAD:
                return
            self._draw(self.waiting.pop(following.index))

    def _draw(self, pending: Pending) -> None:
        kernels = kernels_of(pending.layer)
        self.sizes[pending.index] = sum(4 * int(np.prod(kernel.shape)) for kernel in kernels)
        outputs = [1 if kernel is kernels[-1] else 2 for kernel in kernels]  # depthwise before pointwise
        shapes = [tuple(kernel.shape) for kernel in kernels]
        self.drawn[pending.index] = self.pool.submit(
            lambda: [normal(pending.generator, *each) for each in zip(shapes, outputs, strict=True)]
        )


def kernels_of(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The weights of a convolution or Dense layer but its bias, in their order."""
    return [weight for weight in layer.weights if weight is not layer.bias]


def normal(generator: np.random.Generator, shape: tuple[int, ...], outputs: int = 1) -> npt.NDArray[np.float32]:
    """Normal values of variance 1 / fan-in; the fan-in is the product of all axes but the last `outputs`."""
    fan_in = max(1, int(np.prod(shape[:-outputs])))
    values = _aligned(shape)
    generator.standard_normal(dtype=np.float32, out=values)
    values *= np.float32(fan_in**-0.5)
    return values


def shared(values: npt.NDArray[np.float32]) -> tf.Tensor | npt.NDArray[np.float32]:
    """An array of `normal` as a tensor of the same memory, which must not be written to any more.

    TensorFlow would copy it twice. Another array is returned as it is: TensorFlow's kernels need it aligned.
    """
    if values.ctypes.data % _ALIGNMENT or not values.flags.c_contiguous:
        return values
    return tf.experimental.dlpack.from_dlpack(values.__dlpack__())


def _aligned(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


@contextmanager
def drawing(pending: Sequence[Pending]) -> Iterator[Draws]:
    """Within the context, the kernels of `pending` are drawn."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield Draws(pending, pool)
