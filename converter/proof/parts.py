"""Limits for the parts of an output that have a scale of their own: one norm for the whole output hides small parts.

In an output that joins boxes (up to 640) and scores (1e-3), the boxes dominate the norm: scores that are wrong by 10 %
change it by 1e-6. Therefore every axis is divided into blocks of indices whose values have a similar scale, and each
block is compared with its own norm and its own noise. The same is done for each single index of the last axis.

All norms are pooled over the samples. A norm that depends on few cells is uncertain, in the noise and in the artifact
alike, so its limit is larger: by (1 + 8 / sqrt(cells)), and by 4 more for a single channel. `cells` is the effective
number of cells, (sum x^2)^2 / sum x^4.
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
TINY = 1e-30  # root mean square below which an index counts as zero
LARGEST = (
    0.1  # relative L2; a part with a larger limit is rounding error, and is compared with the whole output's noise
)
FEWEST = 4.0  # effective cells; the same holds for a part that depends on fewer
CHANNEL = 4.0  # factor between the limit of a single channel and that of its block
UNMEASURED = 1e-3  # the limit if there is no float64 reference

Indices = npt.NDArray[np.int64]
Sums = npt.NDArray[np.float64]
"""One sum for each index of an axis, over all other axes and the samples."""


@dataclass(frozen=True)
class _Axis:
    """Sums along one axis: of the squares, of their squares, and of the squared noise (None: not measured)."""

    number: int
    squares: Sums
    fourths: Sums
    noises: Sums | None
    cells: int  # that each sum is over

    def noise(self, indices: Indices) -> float | None:
        """The relative noise of a part."""
        if self.noises is None:
            return None
        return float(np.sqrt(ratio(float(self.noises[indices].sum()), float(self.squares[indices].sum()))))

    def effective(self, indices: Indices) -> float:
        """How many cells the norm of a part depends on."""
        return ratio(float(self.squares[indices].sum()) ** 2, float(self.fourths[indices].sum()))


def parts_of(reference: Array, exact: Array | None, spec: TensorSpec, gate: Gate) -> tuple[Part, ...]:
    """The parts of an output of shape (samples, ...) and their limits, with the constants of `gate`.

    Empty for an output with one scale and one channel, for an output that is not floating point, and for probabilities
    of which some have no logarithm.
    """
    sides = _sides(reference, reference if exact is None else exact, spec)
    if sides is None:
        return ()
    values, gaps = sides
    squares = np.square(values)
    whole = float(np.sqrt(squares.mean()))
    noise = None if exact is None else ratio(float(np.linalg.norm(gaps)), float(np.linalg.norm(values)))
    allowed = whole * (UNMEASURED if noise is None else gate.bound(noise))
    found: list[Part] = []
    for number in range(values.ndim - 1):
        sizes = _sums(values, values, number)
        noises = None if exact is None else _sums(gaps, gaps, number)
        axis = _Axis(number, sizes, _sums(squares, squares, number), noises, values.size // len(sizes))
        blocks, zeros = _blocks(axis)
        if len(zeros) and whole > 0:
            found.append(Part(number, tuple(zeros.tolist()), allowed * _slack(axis.cells * len(zeros)), absolute=True))
        if len(blocks) > 1 or len(zeros):
            found += (_part(axis, block, gate, allowed) for block in blocks)
        if number == values.ndim - 2 and len(sizes) > 1:
            found += (part for block in blocks for part in _channels(axis, block, gate, allowed))
    return tuple(found)


def worst_part(reference: Array, actual: Array, spec: TensorSpec, parts: tuple[Part, ...]) -> tuple[Part, float] | None:
    """The part that exceeds its limit by the largest factor, and this factor; None if no part can be compared."""
    sides = _sides(reference, actual, spec) if parts else None
    if sides is None:
        return None
    values, gaps = sides
    with np.errstate(over="ignore"):
        sums = {
            number: (_sums(values, values, number), _sums(gaps, gaps, number))
            for number in {part.axis for part in parts}
        }
    found = []
    for part in parts:
        size, gap = (each[list(part.indices)] for each in sums[part.axis])
        cells = len(part.indices) * (values.size // len(sums[part.axis][0]))
        squared = float(gap.sum()) / cells if part.absolute else ratio(float(gap.sum()), float(size.sum()))
        found.append((part, ratio(float(np.sqrt(squared)), part.limit)))
    return max(found, key=lambda pair: pair[1])


def _sides(reference: Array, other: Array, spec: TensorSpec) -> tuple[Float64, Float64] | None:
    """The reference and the difference in the domain of the comparison, divided by the largest value of the reference.

    None if the output has no parts.
    """
    if reference.ndim < 2 or reference.dtype.kind != "f" or reference.shape != other.shape:
        return None
    x, y, inside = pair(reference, other, spec.activation)
    if inside is not None:
        return None
    scale = float(np.abs(x).max()) or 1.0  # so that no square overflows
    with np.errstate(over="ignore"):
        return x / scale, (y - x) / scale


def _sums(one: Float64, other: Float64, number: int) -> Sums:
    """The sums of the products of two arrays for each index of axis `number`; no array of the products is made."""
    axes = string.ascii_letters[: one.ndim]
    sums: Sums = np.einsum(f"{axes},{axes}->{axes[number + 1]}", one, other)
    return sums


def _blocks(axis: _Axis) -> tuple[list[Indices], Indices]:
    """Blocks of indices of a similar scale, the largest first, each sorted; and the indices that are zero."""
    rms = np.sqrt(axis.squares / axis.cells)
    order = np.argsort(-rms, kind="stable")
    order, zeros = order[rms[order] > TINY], np.sort(order[rms[order] <= TINY])
    blocks = []
    while len(order):
        inside = rms[order] * SCALE >= rms[order[0]]
        blocks.append(np.sort(order[inside]))
        order = order[~inside]
    return blocks, zeros


def _channels(axis: _Axis, block: Indices, gate: Gate, allowed: float) -> Iterator[Part]:
    """Each channel of a block as a part; its noise is its own or the block's, the larger of the two."""
    own = axis.noise(block) or 0.0
    for index in block:
        yield _part(axis, np.array([index]), gate, allowed, (CHANNEL, own))


def _part(axis: _Axis, indices: Indices, gate: Gate, allowed: float, least: tuple[float, float] = (1.0, 0.0)) -> Part:
    """A part; `allowed` is the root mean square error of the whole output, `least` a factor and the smallest noise."""
    factor, smallest = least
    noise, cells = axis.noise(indices), axis.effective(indices)
    slack = factor * _slack(cells)
    limit = UNMEASURED if noise is None else max(gate.floor, gate.factor * max(noise, smallest))
    where = tuple(indices.tolist())
    if cells < FEWEST or limit > LARGEST:
        return Part(axis.number, where, allowed * factor * _slack(axis.cells * len(where)), absolute=True)
    return Part(axis.number, where, limit * slack)


def _slack(cells: float) -> float:
    return 1.0 + 8.0 / float(np.sqrt(max(1.0, cells)))
