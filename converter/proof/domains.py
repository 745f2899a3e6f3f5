"""The domain in which two outputs are compared: the logits, recovered from the probabilities of a softmax or a sigmoid.

A softmax hides a wrong logit: if every probability is near 1/n, all differences are tiny. With z the logits,
log p = z - log(sum(exp z)), so log p minus its mean over the classes equals z minus its mean. These are the logits up
to the constant that softmax ignores, and the artifact need not be changed. For a sigmoid, log p - log(1 - p) = z.

Both formulas are inaccurate at the ends of the range. Elements that are there on either side are called saturated and
are compared as plain values:

- below `TINY`, where float32 comes near its smallest numbers and libraries begin to flush to zero;
- for a sigmoid also above 1 - `NEAR_ONE`. There p is known only to half a unit in its last place (3e-8 in float32),
  which is an error of 3e-8 / (1 - p) in z: 3e-5 at 0.999, and soon above a float32 tolerance beyond that.

A difference of plain values near 0 or 1 is small for any logits, so saturated elements have a separate limit, see
`saturation_excess`.

Many runtimes compute a sigmoid as 0.5 plus a polynomial. Its absolute error is then that of a number near 0.5, whatever
p is, and its error in z is larger the nearer p is to 0 or 1. So the part of a difference in z that `ROUNDING` of p
explains, ROUNDING / (p (1 - p)), does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.core.data import Activation, Array, TensorSpec, float64
from converter.core.distance import Float64, norms, ratio
from converter.core.results import Tolerance

TINY = 1e-30
NEAR_ONE = 1e-3
ROUNDING = 4 * 2.0**-24  # four units in the last place of float32 just below 1
SUM_SLACK = 1e-3  # allowed deviation of the sum of probabilities from 1
LOW_PRECISION_CAP = 1e-3  # a tolerance with a cap above this is that of TF32, float16 or int8
SMALLEST = 1e-290  # a product of norms above which no square underflowed
POSITIONS = 1 << 16  # elements of a sample from which `effect` reads only a part
DOMAINS: dict[Activation, str] = {"softmax": "log-probability", "sigmoid": "logit", "linear": "value"}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Distance:
    """The distance of one sample's output from its reference, in the domain of its activation.

    `largest` is max|reference| in that domain, `index` the element with the largest difference, `saturated` the number
    of saturated elements, which are compared as plain values. `cosine` is None if one side is all zeros.
    """

    relative_l2: float
    relative_max: float
    max_abs: float
    largest: float
    cosine: float | None
    index: tuple[int, ...]
    saturated: int

    @property
    def sqnr_db(self) -> float:
        """Signal to noise ratio in decibels: -20 log10 of relative L2, infinite if nothing differs."""
        return -20.0 * math.log10(self.relative_l2) if self.relative_l2 > 0 else math.inf


def low_precision(tolerance: Tolerance) -> bool:
    """Whether this is a tolerance of TF32, float16 or int8, which a kernel scaled by 1.001 may meet."""
    return tolerance.cap > LOW_PRECISION_CAP


def probability_error(array: Array, activation: Activation) -> str:
    """Why `array`, finite, cannot be the output of a softmax or a sigmoid; "" if it can."""
    if activation == "linear":
        return ""
    values = float64(array)
    if values.min() < 0 or values.max() > 1 + SUM_SLACK:
        return f"values from {values.min():.3g} to {values.max():.3g} are not {activation} probabilities"
    if activation == "softmax":
        sums = np.atleast_1d(values).sum(axis=-1)
        worst = float(sums.flat[int(np.argmax(np.abs(sums - 1)))])
        if abs(worst - 1) > SUM_SLACK:
            return f"the classes sum to {worst:.6g} instead of 1, so they are not softmax probabilities"
    return ""


def pair(reference: Array, actual: Array, activation: Activation) -> tuple[Float64, Float64, Mask | None]:
    """Both arrays (one sample, any shape) in the domain of `activation`, and a mask of the logarithms in them.

    Of a sigmoid, the second is nearer to the first by what rounding explains. Where the mask is False the element is
    saturated and the plain value is kept. The mask is None if no element is saturated.
    """
    p, q = np.atleast_1d(float64(reference)), np.atleast_1d(float64(actual))
    if activation == "linear":
        return p, q, None
    inside = None if _all_inside(p, activation) and _all_inside(q, activation) else _inside(p, q, activation)
    x, y = (_in_domain(values, inside, activation) for values in (p, q))
    if activation == "sigmoid":
        safe = p if inside is None else np.where(inside, p, 0.5)
        gap = y - x
        explained = ROUNDING / (safe * (1 - safe))
        nearer = x + np.sign(gap) * np.maximum(0.0, np.abs(gap) - explained)
        y = nearer if inside is None else np.where(inside, nearer, y)
    return x, y, inside


def _all_inside(values: Float64, activation: Activation) -> bool:
    return bool(values.min() >= TINY and (activation != "sigmoid" or values.max() <= 1 - NEAR_ONE))


def _inside(p: Float64, q: Float64, activation: Activation) -> Mask:
    inside = (p >= TINY) & (q >= TINY)
    if activation == "sigmoid":
        inside &= (p <= 1 - NEAR_ONE) & (q <= 1 - NEAR_ONE)
    return inside


def _in_domain(values: Float64, inside: Mask | None, activation: Activation) -> Float64:
    """The logits of probabilities, centred for a softmax; the plain values outside of the mask."""
    safe = values if inside is None else np.where(inside, values, 0.5)
    domain = np.log(safe)
    if activation == "sigmoid":
        domain -= np.log1p(-safe)
    elif inside is None:
        domain -= domain.mean(axis=-1, keepdims=True)
    else:
        count = np.maximum(inside.sum(axis=-1, keepdims=True), 1)
        domain -= np.where(inside, domain, 0.0).sum(axis=-1, keepdims=True) / count
    return domain if inside is None else np.where(inside, domain, values)


def measure(reference: Array, actual: Array, activation: Activation) -> Distance:
    """The distance of one sample's output (any shape, not empty) from its reference.

    If the reference is all zero, the relative distance is 0 for no difference and infinite otherwise. If every element
    is saturated, or all except one whose centred logarithm is 0 (a certain prediction), the plain values are measured
    relative to 1, the full scale of a probability: relative to 1e-35 any difference is large.
    """
    return distance(pair(reference, actual, activation), np.shape(reference))


def distance(sides: tuple[Float64, Float64, Mask | None], shape: tuple[int, ...]) -> Distance:
    """`measure` of the two sides that `pair` returned for arrays of `shape`."""
    x, y, inside = sides
    with np.errstate(over="ignore", invalid="ignore"):
        difference = y - x
        worst = int(np.argmax(np.abs(difference)))
        max_abs, largest = abs(float(difference.flat[worst])), max(float(x.max()), -float(x.min()))
        gap, norm = norms(y, x, difference)
        cosine = _cosine(x, y, gap, norm)
    if inside is not None and not x[inside].any():
        norm, largest = max(norm, 1.0), max(largest, 1.0)
    return Distance(
        relative_l2=ratio(gap, norm),
        relative_max=ratio(max_abs, largest),
        max_abs=max_abs,
        largest=largest,
        cosine=cosine,
        index=tuple(int(i) for i in np.unravel_index(worst, shape)),
        saturated=0 if inside is None else int(inside.size - inside.sum()),
    )


def apart(reference: Array, actual: Array, activation: Activation) -> float:
    """The relative L2 of `measure` alone."""
    x, y, inside = pair(reference, actual, activation)
    gap, norm = norms(y, x)
    return ratio(gap, max(norm, 1.0) if inside is not None and not x[inside].any() else norm)


def effect(spec: TensorSpec, reference: Array, actual: Array) -> float:
    """About the relative L2 of the worst sample of an output, shape (samples, ...); infinite for another shape or NaN.

    Of a large output only every so many-th position is read.
    """
    if reference.shape != actual.shape or not np.isfinite(actual).all():
        return math.inf
    if reference.ndim > 2 and reference[0].size > POSITIONS:
        step = -(-reference[0].size // POSITIONS)
        reference, actual = (each.reshape(len(each), -1, each.shape[-1])[:, ::step] for each in (reference, actual))
    return max((apart(*pair, spec.activation) for pair in zip(reference, actual, strict=True)), default=0.0)


def _cosine(x: Float64, y: Float64, gap: float, norm: float) -> float | None:
    """The cosine of the angle between two arrays of the same shape; None if one of them is all zeros.

    `gap` and `norm` are the norms of y - x and of x: 2 x.y is |x|^2 + |y|^2 - |y - x|^2.
    """
    square = float(np.vdot(y, y))
    lengths = norm * math.sqrt(square)
    dot = (norm * norm + square - gap * gap) / 2
    if not (math.isfinite(lengths) and lengths > SMALLEST and math.isfinite(dot)):
        scale = max(float(np.abs(x).max()), float(np.abs(y).max())) or 1.0
        lengths = float(np.linalg.norm(x / scale)) * float(np.linalg.norm(y / scale))
        dot = float(np.vdot(x / scale, y / scale))
    return min(1.0, max(-1.0, dot / lengths)) if lengths > 0 else None


def saturation_excess(
    reference: Array,
    actual: Array,
    activation: Activation,
    tolerance: Tolerance,
    sides: tuple[Float64, Float64, Mask | None] | None = None,
) -> float:
    """The largest difference of a saturated element of one sample, divided by its limit; at most 1 is within tolerance.

    Two outputs within tolerance differ by at most t = value_max * max|z| in the domain (2t after centring), so their
    p / q, or (1 - p) / (1 - q), is at most exp(2t). Therefore an element below TINY on one side must be below
    TINY * exp(2t) on the other, plus the rounding of a sigmoid, and one near 1 may differ by (1 - p) * (exp(2t) - 1)
    plus rounding. The limit is never
    more than value * max|p|; at low precision, whose smallest numbers are far above TINY, that is the only limit.
    """
    x, _, inside = sides or pair(reference, actual, activation)
    if inside is None:
        return 0.0
    p, q = np.atleast_1d(float64(reference)), np.atleast_1d(float64(actual))
    outside = ~inside
    allowed = np.full(p.shape, tolerance.value * float(p.max()) + TINY)
    if not low_precision(tolerance):
        largest = float(np.abs(x[inside]).max()) if inside.any() else 0.0
        low = np.minimum(p, q) < TINY
        spread_low = math.exp(min(50.0, 2 * tolerance.value_max * max(largest, -math.log(TINY))))
        spread_high = math.expm1(min(50.0, 2 * tolerance.value_max * max(largest, -math.log(ROUNDING))))
        rounding = ROUNDING if activation == "sigmoid" else 0.0
        strict = np.where(low, TINY * spread_low + rounding, (1 - p) * spread_high + ROUNDING)
        allowed = np.minimum(allowed, strict)
    over = np.abs(p - q)[outside] / np.maximum(allowed[outside], np.finfo(np.float64).tiny)
    return float(over.max())


def score(array: Array, activation: Activation) -> Float64:
    """`array` on a scale where the margin between two classes is a difference of logits; the order is kept."""
    values = float64(array)
    if activation == "linear":
        return values
    clipped = np.clip(values, TINY, 1.0 if activation == "softmax" else 1 - NEAR_ONE)
    logs = np.log(clipped)
    return logs if activation == "softmax" else logs - np.log1p(-clipped)
