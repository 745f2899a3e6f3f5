"""Weights in int8, symmetric, with a scale for each output channel; biases in int32; and what can saturate.

Without VNNI, x86 processors multiply int8 by VPMADDUBSW: two products of an unsigned byte and a signed one are added
in 16 bits, and the sum saturates. With activations up to 255 it cannot if |w1| + |w2| <= 128 for any two neighbours
along the accumulation, since 255 * 128 = 32,640 <= 32,767. Which weights are neighbours depends on the layout that a
kernel packs: both orders, channels first and channels last, are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.core.data import Array
from converter.core.distance import Float64

LARGEST = 127
SAFE = 128
"""The largest sum of two neighbouring weights, in absolute value, of which two products fit 16 bits"""

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Weight:
    """A kernel in int8, its scale for each output channel, and the largest sum of two neighbours.

    `axis` is that of the output channels in `values`; `narrowed` is how many channels have a wider scale than their
    largest weight needs, so that no two products saturate.
    """

    values: Int8
    scales: npt.NDArray[np.float32]
    axis: int
    pairs: int
    narrowed: int = 0

    @property
    def saturates(self) -> bool:
        """Whether two products can exceed 16 bits."""
        return self.pairs > SAFE

    @property
    def real(self) -> Array:
        """The values that the stored ones stand for, float32."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.values.ndim)]
        return (self.values.astype(np.float32) * self.scales.reshape(shape)).astype(np.float32)


def quantized(kernel: Array, axis: int, *, safe: bool = False) -> Weight:
    """`kernel`, float, in int8: the largest weight of each channel of `axis` is 127.

    With `safe` the scale of a channel is wide enough that no two neighbours exceed `SAFE` together.
    """
    rows = np.moveaxis(np.asarray(kernel, np.float64), axis, 0)
    peaks = np.abs(rows.reshape(len(rows), -1)).max(axis=1, initial=0.0)
    scales = peaks / LARGEST
    narrowed = 0
    if safe:
        wider = neighbours(rows) / LARGEST  # rounding adds at most one half to each of two weights
        narrowed = int(np.sum(wider > scales))
        scales = np.maximum(scales, wider)
    single = np.where(scales > np.finfo(np.float32).tiny, scales, 1.0).astype(np.float32)
    shape = (-1, *(1 for _ in rows.shape[1:]))
    stored = np.clip(np.rint(rows / single.reshape(shape).astype(np.float64)), -LARGEST, LARGEST).astype(np.int8)
    pairs = int(neighbours(stored).max(initial=0))
    return Weight(np.ascontiguousarray(np.moveaxis(stored, 0, axis)), single, axis, pairs, narrowed)


def neighbours(rows: Array) -> Float64:
    """The largest |w1| + |w2| of two neighbours along the accumulation, for each output channel.

    `rows` has the output channels first; the rest is summed over, in either order of its axes: as it is, and with the
    next axis (input channels, or the first of space) moved behind the others or the last one in front of them.
    """
    sizes = np.abs(np.asarray(rows, np.float64))
    found = np.zeros(len(sizes))
    orders = [sizes] if sizes.ndim < 3 else [sizes, np.moveaxis(sizes, 1, -1), np.moveaxis(sizes, -1, 1)]
    for each in orders:
        flat = each.reshape(len(each), -1)
        both = flat[:, :-1] + flat[:, 1:] if flat.shape[1] > 1 else flat
        found = np.maximum(found, both.max(axis=1, initial=0.0))
    return found


def bias_of(bias: Array, activation: float, scales: npt.NDArray[np.float32]) -> tuple[Int32, npt.NDArray[np.float32]]:
    """A bias in int32 and its scale for each channel, that of the activations times that of the weights."""
    product = (np.float32(activation) * scales).astype(np.float32)
    stored = np.rint(np.asarray(bias, np.float64) / product.astype(np.float64))
    limits = np.iinfo(np.int32)
    return np.clip(stored, limits.min, limits.max).astype(np.int32), product


def accumulated(activations: Array, weights: Array, *, bits16: bool) -> npt.NDArray[np.int64]:
    """Dot products of unsigned 8-bit `activations` (n, k) and int8 `weights` (channels, k), shape (n, channels).

    With `bits16` as VPMADDUBSW computes them: the sum of each two neighbouring products saturates at 16 bits before it
    is added to the total.
    """
    x, w = np.asarray(activations, np.int64), np.asarray(weights, np.int64)
    if x.shape[1] % 2:
        x, w = (np.pad(each, ((0, 0), (0, 1))) for each in (x, w))
    products = x[:, None, :] * w[None, :, :]
    sums = products.reshape(*products.shape[:2], -1, 2).sum(axis=-1)
    if bits16:
        sums = np.clip(sums, -(1 << 15), (1 << 15) - 1)
    return np.asarray(sums.sum(axis=-1))
