"""The distance of two arrays and the tolerance that follows from measured noise: two formulas that all checks share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.core.data import Array, float64

_SMALLEST = 1e-280  # a sum of squares below it may have lost terms

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """The constants of a tolerance: `factor` times the noise, at least `floor`, at most `cap` (relative L2)."""

    factor: float
    floor: float
    cap: float

    def bound(self, noise: float) -> float:
        """min(cap, max(floor, factor * noise))."""
        return min(self.cap, max(self.floor, self.factor * noise))


FLOAT32 = Gate(factor=8.0, floor=1e-6, cap=1e-4)
"""The bound of what float32 computes: of an artifact's outputs, and of the replacement of a part of a model."""


def relative_l2(actual: Array, reference: Array) -> float:
    """||actual - reference|| / ||reference|| in float64, for arrays of the same shape.

    NaN if either array is not finite, 0 if both are zero, infinite if only the reference is zero.
    """
    return ratio(*norms(float64(actual), float64(reference)))


def norms(actual: Float64, reference: Float64, difference: Float64 | None = None) -> tuple[float, float]:
    """||actual - reference|| and ||reference||; `difference` is actual - reference if it is known already.

    Values of which a square would overflow or underflow are scaled first.
    """
    if not actual.size:
        return 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        difference = actual - reference if difference is None else difference
        squares = [float(np.vdot(each, each)) for each in (difference, reference)]
        if all(math.isfinite(each) and (each > _SMALLEST or each == 0) for each in squares) and squares[1] > 0:
            return math.sqrt(squares[0]), math.sqrt(squares[1])
        scale = max(float(np.abs(difference).max()), float(np.abs(reference).max())) or 1.0
        gap, norm = (scale * float(np.linalg.norm(each / scale)) for each in (difference, reference))
    return gap, norm


def ratio(difference: float, magnitude: float) -> float:
    """difference / magnitude. 0 / 0 is 0; any other value divided by 0 is infinite."""
    if math.isnan(difference) or math.isnan(magnitude):
        return math.nan
    if magnitude > 0:
        return difference / magnitude
    return 0.0 if difference == 0 else math.inf
