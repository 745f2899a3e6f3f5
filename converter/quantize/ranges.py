"""What was seen of a tensor while calibrating, and the int8 scale that follows from it.

A range is the lowest and highest value that int8 must hold. "minmax" takes all that was seen; "percentile" leaves out
one value in 100,000 at either end; "entropy" takes the symmetric clipping that loses the least information about the
histogram (Kullback-Leibler divergence, as in TensorRT's calibration).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Array
from converter.core.distance import Float64
from converter.core.precision import Method

BINS = 2048
TAIL = 1e-5
"""The share of values that "percentile" leaves out, at either end."""

LEVELS = 128
"""The levels of int8 on either side of zero; a tensor that is never negative, or never positive, has twice as many"""

_STEPS = 32  # clippings that "entropy" compares
LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True)
class Seen:
    """The values of one tensor: how many, their extremes, the sums of |x| and x², and, if counted, their histogram.

    The histogram has `BINS` equal bins between `ends`.
    """

    count: int
    low: float
    high: float
    absolute: float
    squares: float
    bins: Float64 | None = None
    ends: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, array: Array) -> Seen:
        """What one array holds, without a histogram."""
        flat = np.ascontiguousarray(array).reshape(-1)
        absolute = float(np.sum(np.abs(flat), dtype=np.float64))
        return cls(flat.size, float(flat.min()), float(flat.max()), absolute, float(np.dot(flat, flat)))

    def __add__(self, other: Seen) -> Seen:
        """Both together; histograms are added if both have the same ends."""
        both = None
        if self.bins is not None and other.bins is not None and self.ends == other.ends:
            both = self.bins + other.bins
        return Seen(
            self.count + other.count,
            min(self.low, other.low),
            max(self.high, other.high),
            self.absolute + other.absolute,
            self.squares + other.squares,
            both,
            self.ends,
        )

    def counted(self, array: Array, ends: tuple[float, float]) -> Seen:
        """The same with `array` added to the histogram between `ends`; what is outside of them counts at the ends."""
        high = ends[1] if ends[1] > ends[0] else ends[0] + 1.0
        values = np.clip(np.asarray(array, np.float64), ends[0], high)
        counts = np.histogram(values, BINS, (ends[0], high))[0].astype(np.float64)
        return replace(self, bins=counts if self.bins is None else self.bins + counts, ends=ends)

    def alike(self, other: Seen) -> bool:
        """Whether both are the same tensor in two files, to the rounding of float32."""
        return self.count == other.count and all(
            math.isclose(one, two, rel_tol=1e-3, abs_tol=1e-6)
            for one, two in (
                (self.low, other.low),
                (self.high, other.high),
                (self.absolute, other.absolute),
                (self.squares, other.squares),
            )
        )


@dataclass(frozen=True)
class Scale:
    """real = scale * (stored - zero_point), stored in int8."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """The lowest value that is represented."""
        return self.scale * (LOWEST - self.zero_point)

    @property
    def high(self) -> float:
        """The highest value that is represented."""
        return self.scale * (HIGHEST - self.zero_point)


SIGMOID, TANH = Scale(1 / 256, LOWEST), Scale(1 / 128, 0)
"""The scales that TFLite's kernels of these functions have, which other runtimes take as well"""


def range_of(seen: Seen, method: Method) -> tuple[float, float]:
    """The range of `seen` by `method`; a tensor without a histogram has all of what was seen."""
    if method == "minmax" or seen.bins is None or seen.high <= seen.low:
        return seen.low, seen.high
    edges = np.linspace(*seen.ends, BINS + 1)
    if method == "percentile":
        share = np.cumsum(seen.bins) / seen.bins.sum()
        first = int(np.searchsorted(share, TAIL, side="right"))
        last = int(np.searchsorted(share, 1 - TAIL, side="left"))
        return float(edges[first]), float(edges[min(last, BINS - 1) + 1])
    return _entropy(seen.bins, edges)


def scale_of(low: float, high: float) -> Scale:
    """The asymmetric int8 scale of a range, which zero always belongs to, so that it is stored exactly.

    The scale is a float32, as the files hold it.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (HIGHEST - LOWEST)))
    if not scale > np.finfo(np.float32).tiny:
        return Scale(1.0, LOWEST if low == 0 else 0)
    zero_point = round(LOWEST - low / scale)
    return Scale(scale, int(min(HIGHEST, max(LOWEST, zero_point))))


def spread(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far two ranges of the same tensor are apart, relative to the wider one."""
    width = max(one[1] - one[0], other[1] - other[0])
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) / width if width > 0 else 0.0


def _entropy(bins: Float64, edges: Float64) -> tuple[float, float]:
    """The range whose clipping and rounding to the levels of int8 keeps the most of the distribution of |x|.

    A side on which nothing was seen stays empty. Zero is always exact, so that its bin, which a ReLU fills, counts like
    the next one.
    """
    levels_of = 2 * LEVELS if edges[0] >= 0 or edges[-1] <= 0 else LEVELS
    centres = (edges[:-1] + edges[1:]) / 2
    largest = float(np.abs(edges[[0, -1]]).max())
    counts = np.histogram(np.abs(centres), BINS, (0.0, largest), weights=bins)[0]
    counts[0] = min(counts[0], counts[1])
    if not counts.any():
        return float(edges[0]), float(edges[-1])
    best, kept = math.inf, BINS
    for size in np.unique(np.linspace(levels_of, BINS, _STEPS).astype(int)):
        clipped = counts[:size].copy()
        clipped[-1] += counts[size:].sum()
        levels = np.minimum(np.arange(size) * levels_of // size, levels_of - 1)
        present = counts[:size] > 0
        sums, members = (np.bincount(levels, each, levels_of) for each in (counts[:size], present.astype(float)))
        rounded = np.where(present, (sums / np.maximum(members, 1))[levels], 0.0)
        divergence = _divergence(clipped, rounded)
        if divergence < best:
            best, kept = divergence, int(size)
    limit = largest * kept / BINS
    return max(float(edges[0]), -limit), min(float(edges[-1]), limit)


def _divergence(expected: Float64, actual: Float64) -> float:
    """Kullback-Leibler divergence of two histograms; a bin that `actual` lost counts with a small share."""
    p, q = expected / expected.sum(), actual / max(actual.sum(), 1e-300)
    q = np.maximum(q, 1e-9)
    inside = p > 0
    return float((p[inside] * np.log(p[inside] / q[inside])).sum())
