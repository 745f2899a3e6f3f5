"""Limits for the parts of an output that have a scale of their own: one norm for the whole output hides small parts.

In an output that joins boxes (up to 640) and scores (1e-3), the boxes dominate the norm: scores that are wrong by 10 %
change it by 1e-6. Therefore every axis is divided into blocks of indices whose values have a similar scale, and each
block is compared with its own norm and its own noise. The same is done for each single index of the last axis.

All norms are pooled over the samples; arrays are read sample by sample, so that no copy of them is made. A norm that
depends on few cells is uncertain, in the noise and in the artifact alike, so its limit is larger: by
(1 + 8 / sqrt(cells)), and by 4 more for a single channel. `cells` is the effective number of cells,
(sum x^2)^2 / sum x^4.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.core.data import Array, TensorSpec
from converter.core.distance import Float64, Gate, ratio
from converter.core.results import Part
from converter.proof.domains import pair

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
Sums = npt.NDArray[np.float64]
"""One sum for each index of an axis, over all other axes and the samples."""


@dataclass(frozen=True)
class _Axis:
    """Sums along one axis: of the squares, of their squares, and of the squared differences; `cells` in each sum.

    `ends` are the smallest and the largest values of the reference, for each index too.
    """

    squares: Sums
    fourths: Sums
    gaps: Sums
    cells: int
    ends: tuple[Sums, Sums]


@dataclass(frozen=True)
class _Sums:
    """The sums along every axis of an output, over `samples`, and the largest value of the reference."""

    axes: tuple[_Axis, ...]
    samples: int
    largest: float


@dataclass(frozen=True)
class _Limits:
    """What the limits of all parts depend on: the `gate`, the allowed error of the whole output, and the noise.

    `allowed` is a root mean square error. `noise` has the sums of float32 against float64; None if not measured. The
    output is compared in `plain` values, not in logits.
    """

    gate: Gate
    allowed: float
    noise: _Sums | None
    whole: _Sums
    plain: bool = True


def parts_of(
    reference: Array, rounded: Array | None, exact: Array | None, spec: TensorSpec, gate: Gate
) -> tuple[Part, ...]:
    """The parts of an output of shape (samples, ...) and their limits, with the constants of `gate`.

    `rounded` and `exact` are the output in float32 and in float64, for the first samples; without them the limit is
    `UNMEASURED`. Empty for an output with one scale and one channel, for an output that is not floating point, and for
    probabilities of which some have no logarithm.
    """
    whole = _sums(reference, reference, spec)
    noise = None if rounded is None or exact is None else _sums(rounded, exact, spec)
    if whole is None or not (whole.largest > 0) or (exact is not None and noise is None):
        return ()
    size = np.sqrt(whole.axes[0].squares.sum() / (whole.axes[0].cells * len(whole.axes[0].squares)))
    limits = _Limits(gate, float(size) * _relative(noise, gate), noise, whole, spec.activation == "linear")
    found: list[Part] = []
    for number, axis in enumerate(whole.axes):
        blocks, zeros = _blocks(axis, whole.largest)
        if len(zeros):
            cells = axis.cells * len(zeros) / whole.samples
            found.append(Part(number, tuple(zeros.tolist()), limits.allowed, cells, absolute=True))
        if len(blocks) > 1 or len(zeros):
            found += (_part(number, block, limits) for block in blocks)
        if number == len(whole.axes) - 1 and len(axis.squares) > 1:
            found += (part for block in blocks for part in _channels(number, block, limits))
    return tuple(found)


def worst_part(reference: Array, actual: Array, spec: TensorSpec, parts: tuple[Part, ...]) -> tuple[Part, float] | None:
    """The part that exceeds its limit by the largest factor, and this factor; None if no part can be compared."""
    sums = _sums(reference, actual, spec) if parts else None
    if sums is None:
        return None
    found = []
    for part in parts:
        axis, places = sums.axes[part.axis], list(part.indices)
        cells = len(places) * axis.cells
        gap, own = (float(np.sqrt(each[places].sum() / cells)) for each in (axis.gaps, axis.squares))
        allowed = part.limit * _slack(part.cells * sums.samples) * (1.0 if part.absolute else max(part.size, own))
        found.append((part, ratio(gap, allowed)))
    return max(found, key=lambda pair: pair[1])


def _sums(reference: Array, other: Array, spec: TensorSpec) -> _Sums | None:
    """The sums of an output in the domain of the comparison; None if it has no parts."""
    if reference.ndim < 2 or reference.dtype.kind != "f" or reference.shape != other.shape:
        return None
    totals = [[np.zeros(size) for size in reference.shape[1:]] for _ in range(3)]
    low, high = ([np.full(size, end) for size in reference.shape[1:]] for end in (np.inf, -np.inf))
    largest = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for one, two in zip(reference, other, strict=True):
            values, given, inside = pair(one, two, spec.activation)
            if inside is not None:
                return None
            largest = max(largest, float(np.abs(values).max()))
            gap = given - values
            squared = np.square(values)
            for total, each in zip(totals, (values, squared, gap), strict=True):
                for number, sums in enumerate(total):
                    sums += _along(each, number)
            for number in range(values.ndim):
                others = tuple(axis for axis in range(values.ndim) if axis != number)
                np.minimum(low[number], values.min(axis=others), out=low[number])
                np.maximum(high[number], values.max(axis=others), out=high[number])
    count = reference.size
    columns = zip(*totals, low, high, strict=True)
    axes = (_Axis(one, two, three, count // len(one), (start, end)) for one, two, three, start, end in columns)
    return _Sums(tuple(axes), len(reference), largest)


def _along(values: Float64, number: int) -> Sums:
    """The sums of the squares for each index of axis `number`; no array of the squares is made."""
    axes = string.ascii_letters[: values.ndim]
    sums: Sums = np.einsum(f"{axes},{axes}->{axes[number]}", values, values)
    return sums


def _relative(noise: _Sums | None, gate: Gate) -> float:
    """The tolerance of the whole output, with the noise pooled over the samples."""
    if noise is None:
        return UNMEASURED
    return gate.bound(float(np.sqrt(ratio(float(noise.axes[0].gaps.sum()), float(noise.axes[0].squares.sum())))))


def _blocks(axis: _Axis, largest: float) -> tuple[list[Indices], Indices]:
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


def _channels(number: int, block: Indices, limits: _Limits) -> Iterator[Part]:
    """Each channel of a block as a part; its noise is its own or the block's, the larger of the two."""
    own = _noise(number, block, limits) or 0.0
    for index in block:
        yield _part(number, np.array([index]), limits, (CHANNEL, own))


def _part(number: int, indices: Indices, limits: _Limits, least: tuple[float, float] = (1.0, 0.0)) -> Part:
    """A part of axis `number`; `least` is a factor of its limit, and the smallest noise."""
    factor, smallest = least
    axis, gate = limits.whole.axes[number], limits.gate
    noise = _noise(number, indices, limits)
    cells = ratio(float(axis.squares[indices].sum()) ** 2, float(axis.fourths[indices].sum()))
    limit = UNMEASURED if noise is None else max(gate.floor, gate.factor * max(noise, smallest))
    where = tuple(indices.tolist())
    if cells < FEWEST or limit > LARGEST:
        plain = axis.cells * len(where) / limits.whole.samples
        return Part(number, where, limits.allowed * factor, plain, absolute=True)
    size = float(np.sqrt(axis.squares[indices].sum() / (axis.cells * len(where))))
    lowest, highest = axis.ends[0][indices].min(), axis.ends[1][indices].max()
    if limits.plain and lowest >= 0 and highest <= 1:
        limit = max(limit, PROBABILITY / size)
    return Part(number, where, limit * factor, cells / limits.whole.samples, size)


def _noise(number: int, indices: Indices, limits: _Limits) -> float | None:
    """The relative noise of a part."""
    if limits.noise is None:
        return None
    axis = limits.noise.axes[number]
    return float(np.sqrt(ratio(float(axis.gaps[indices].sum()), float(axis.squares[indices].sum()))))


def _slack(cells: float) -> float:
    return 1.0 + 8.0 / float(np.sqrt(max(1.0, cells)))
