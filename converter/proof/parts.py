"""Limits for the parts of an output that have a scale of their own: one norm for the whole output hides small parts.

In an output that joins boxes (up to 640) and scores (1e-3), the boxes dominate the norm: scores that are wrong by 10 %
change it by 1e-6. Therefore the first and the last axis are divided into blocks of indices whose values have a similar
scale, and each block is compared with its own norm and its own noise. The same is done for each single index of the
last axis.

All norms are pooled over the samples; arrays are read sample by sample, so that no copy of them is made. A norm that
depends on few cells is uncertain, in the noise and in the artifact alike, so its limit is larger: by
(1 + 8 / sqrt(cells)), and by 4 more for a single channel. `cells` is the effective number of cells,
(sum x^2)^2 / sum x^4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from converter.core.data import Array, TensorSpec
from converter.core.distance import Float64, Gate, ratio
from converter.core.results import Part
from converter.proof.domains import Mask, pair

SCALE = 8.0  # the values of a block are within this factor of its largest
TINY = 1e-30  # root mean square, relative to the largest value, below which an index counts as zero
LARGEST = (
    0.1  # relative L2; a part with a larger limit is rounding error, and is compared with the whole output's noise
)
FEWEST = 4.0  # effective cells; the same holds for a part that depends on fewer
CHANNEL = 4.0  # factor between the limit of a single channel and that of its block
UNMEASURED = 1e-3  # the limit if there is no float64 reference
PROBABILITY = 2.0**-23  # root mean square error of values in [0, 1]: what a runtime's sigmoid may round by

Indices = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]
"""One number for each index of an axis, over all other axes and the samples."""


@dataclass(frozen=True)
class Axis:
    """Sums along one axis: of the squares, of their squares, and of the squared differences; `cells` in each sum.

    `low` and `high` are the smallest and the largest values of the reference, for each index too. `number` counts the
    axes without the samples.
    """

    number: int
    squares: Vector
    fourths: Vector
    gaps: Vector
    low: Vector
    high: Vector
    cells: int


@dataclass
class Sums:
    """The sums along the first and the last axis of an output, sample by sample; the axes between have no parts.

    In a map those are positions, of which no single row stands out. `usable` is False for an output without parts.
    """

    samples: int = 0
    largest: float = 0.0
    usable: bool = True
    shape: tuple[int, ...] = ()
    _totals: list[Float64] = field(default_factory=list)

    @classmethod
    def of(cls, reference: Array, other: Array, spec: TensorSpec) -> Sums | None:
        """The sums of an output in the domain of the comparison; None if it has no parts."""
        if reference.ndim < 2 or reference.dtype.kind != "f" or reference.shape != other.shape:
            return None
        sums = cls()
        for one, two in zip(reference, other, strict=True):
            sums.add(pair(one, two, spec.activation))
        return sums if sums.usable else None

    def add(self, sides: tuple[Float64, Float64, Mask | None]) -> None:
        """Add one sample: its two sides as `domains.pair` returned them."""
        values, given, inside = sides
        self.usable &= inside is None
        if not self.usable:
            return
        self.shape, self.samples = values.shape, self.samples + 1
        x = values.reshape(values.shape[0] if values.ndim > 1 else 1, -1, values.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            gap = given.reshape(x.shape) - x
            gaps = np.einsum("amc,amc->ac", gap, gap)
            np.square(x, out=gap)  # its memory is used again
            squares, fourths = gap.sum(axis=1), np.einsum("amc,amc->ac", gap, gap)
        low, high = x.min(axis=1), x.max(axis=1)
        self.largest = max(self.largest, float(high.max()), -float(low.min()))
        if not self._totals:
            self._totals = [squares, fourths, gaps, low, high]
            return
        for total, each in zip(self._totals[:3], (squares, fourths, gaps), strict=True):
            total += each
        np.minimum(self._totals[3], low, out=self._totals[3])
        np.maximum(self._totals[4], high, out=self._totals[4])

    def axes(self) -> Iterator[Axis]:
        """The first axis, if there are two, and the last one."""
        last = len(self.shape) - 1
        squares, fourths, gaps, low, high = self._totals
        cells = self.samples * int(np.prod(self.shape, dtype=np.int64))
        for number, other in ((0, 1), (last, 0)) if last > 0 else ((last, 0),):
            yield Axis(
                number=number,
                squares=squares.sum(axis=other),
                fourths=fourths.sum(axis=other),
                gaps=gaps.sum(axis=other),
                low=low.min(axis=other),
                high=high.max(axis=other),
                cells=cells // squares.shape[1 - other],
            )


@dataclass(frozen=True)
class _Limits:
    """What the limits of all parts depend on: the `gate`, the allowed error of the whole output, and the noise.

    `allowed` is a root mean square error. `noise` has the sums of float32 against float64 by axis; None if not
    measured. The output is compared in `plain` values, not in logits.
    """

    gate: Gate
    allowed: float
    noise: dict[int, Axis] | None
    samples: int
    plain: bool


def parts_of(
    reference: Array, rounded: Array | None, exact: Array | None, spec: TensorSpec, gate: Gate
) -> tuple[Part, ...]:
    """The parts of an output of shape (samples, ...) and their limits, with the constants of `gate`.

    `rounded` and `exact` are the output in float32 and in float64, for the first samples; without them the limit is
    `UNMEASURED`. Empty for an output with one scale and one channel, for an output that is not floating point, and for
    probabilities of which some have no logarithm.
    """
    whole = Sums.of(reference, reference, spec)
    noise = None if rounded is None or exact is None else Sums.of(rounded, exact, spec)
    if whole is None or not (whole.largest > 0) or (exact is not None and noise is None):
        return ()
    axes = list(whole.axes())
    size = float(np.sqrt(axes[-1].squares.sum() / (axes[-1].cells * len(axes[-1].squares))))
    noises = None if noise is None else {axis.number: axis for axis in noise.axes()}
    limits = _Limits(gate, size * _relative(noises, gate), noises, whole.samples, spec.activation == "linear")
    found: list[Part] = []
    for axis in axes:
        blocks, zeros = _blocks(axis, whole.largest)
        if len(zeros):
            cells = axis.cells * len(zeros) / whole.samples
            found.append(Part(axis.number, tuple(zeros.tolist()), limits.allowed, cells, absolute=True))
        if len(blocks) > 1 or len(zeros):
            found += (_part(axis, block, limits) for block in blocks)
        if axis is axes[-1] and len(axis.squares) > 1:
            found += (part for block in blocks for part in _channels(axis, block, limits))
    return tuple(found)


def worst_part(sums: Sums, parts: tuple[Part, ...]) -> tuple[Part, float] | None:
    """The part that exceeds its limit by the largest factor, and this factor; None if no part can be compared."""
    if not parts or not sums.usable or not sums.samples:
        return None
    axes = {axis.number: axis for axis in sums.axes()}
    found = []
    for part in parts:
        axis, places = axes[part.axis], list(part.indices)
        cells = len(places) * axis.cells
        gap, own = (float(np.sqrt(each[places].sum() / cells)) for each in (axis.gaps, axis.squares))
        allowed = part.limit * _slack(part.cells * sums.samples) * (1.0 if part.absolute else max(part.size, own))
        found.append((part, ratio(gap, allowed)))
    return max(found, key=lambda pair: pair[1])


def _relative(noise: dict[int, Axis] | None, gate: Gate) -> float:
    """The tolerance of the whole output, with the noise pooled over the samples."""
    if noise is None:
        return UNMEASURED
    axis = next(iter(noise.values()))
    return gate.bound(float(np.sqrt(ratio(float(axis.gaps.sum()), float(axis.squares.sum())))))


def _blocks(axis: Axis, largest: float) -> tuple[list[Indices], Indices]:
    """Blocks of indices of a similar scale, the largest first, each sorted; and the indices that are zero."""
    rms = np.sqrt(axis.squares / axis.cells)
    order = np.argsort(-rms, kind="stable")
    order, zeros = order[rms[order] > TINY * largest], np.sort(order[rms[order] <= TINY * largest])
    blocks = []
    while len(order):
        inside = rms[order] * SCALE >= rms[order[0]]
        blocks.append(np.sort(order[inside]))
        order = order[~inside]
    return blocks, zeros


def _channels(axis: Axis, block: Indices, limits: _Limits) -> Iterator[Part]:
    """Each channel of a block as a part; its noise is its own or the block's, the larger of the two."""
    own = _noise(axis.number, block, limits) or 0.0
    for index in block:
        yield _part(axis, np.array([index]), limits, (CHANNEL, own))


def _part(axis: Axis, indices: Indices, limits: _Limits, least: tuple[float, float] = (1.0, 0.0)) -> Part:
    """A part of an axis; `least` is a factor of its limit, and the smallest noise."""
    factor, smallest = least
    gate, noise = limits.gate, _noise(axis.number, indices, limits)
    cells = ratio(float(axis.squares[indices].sum()) ** 2, float(axis.fourths[indices].sum()))
    limit = UNMEASURED if noise is None else max(gate.floor, gate.factor * max(noise, smallest))
    where = tuple(indices.tolist())
    if cells < FEWEST or limit > LARGEST:
        plain = axis.cells * len(where) / limits.samples
        return Part(axis.number, where, limits.allowed * factor, plain, absolute=True)
    size = float(np.sqrt(axis.squares[indices].sum() / (axis.cells * len(where))))
    if limits.plain and axis.low[indices].min() >= 0 and axis.high[indices].max() <= 1:
        limit = max(limit, PROBABILITY / size)
    return Part(axis.number, where, limit * factor, cells / limits.samples, size)


def _noise(number: int, indices: Indices, limits: _Limits) -> float | None:
    """The relative noise of a part."""
    if limits.noise is None:
        return None
    axis = limits.noise[number]
    return float(np.sqrt(ratio(float(axis.gaps[indices].sum()), float(axis.squares[indices].sum()))))


def _slack(cells: float) -> float:
    return 1.0 + 8.0 / float(np.sqrt(max(1.0, cells)))
