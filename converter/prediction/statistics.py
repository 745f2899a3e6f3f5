"""Exact statistics of two classifiers on the same images: what a difference in accuracy shows, and what it does not.

Both classifiers see the same images, so only those count where one is right and the other wrong. Let b be the number
where only the reference is right, c where only the artifact is, n all images, m = b + c. The drop of accuracy is
psi * (2 * theta - 1), with psi = P(one of them is wrong), estimated by m / n, and theta = P(the reference is right,
given that one of them is wrong), estimated by b / m. Each of them has an exact interval (Clopper and Pearson, 1934);
with the share `SPENT` of the error spent on psi and the rest on theta, both hold together at least as often as the
confidence says (Bonferroni), and so does the interval of the drop that follows from them. The test of McNemar asks
whether theta is 1/2; its exact form is the binomial test. The interval is wider than the usual approximations: it
promises more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from converter.data.samples import Indices

Answer = Literal["within", "beyond", "too few images"]
SPENT = 0.2
MOST_IMAGES = 100_000_000
_STEPS = 60  # of a bisection: 2**-60


@dataclass(frozen=True)
class Paired:
    """The drop of accuracy from the reference to an artifact, as a share of all images, with its interval.

    `only_reference` and `only_artifact` are the numbers of images that only one of them classified rightly. `p_value`
    is that of the exact test of McNemar. `answer` compares with `allowed`: "within" if the whole interval is at most
    that, "beyond" if it is all above, else "too few images"; `needed` is then how many would decide at the observed
    rates, None if no number would.
    """

    images: int
    only_reference: int
    only_artifact: int
    drop: float
    low: float
    high: float
    confidence: float
    p_value: float
    allowed: float
    answer: Answer
    needed: int | None = None


def paired(only_reference: int, only_artifact: int, images: int, allowed: float, confidence: float = 0.95) -> Paired:
    """The comparison of two classifiers; `allowed` is the largest acceptable drop, as a share.

    `confidence` is that of each end of the interval: the answer "within" is wrong at most 1 - `confidence` of the time.
    Raises ValueError for no image, or more discordant ones than images.
    """
    if images < 1 or only_reference < 0 or only_artifact < 0 or only_reference + only_artifact > images:
        raise ValueError(f"{only_reference} and {only_artifact} of {images} images")
    low, high = drop_interval(only_reference, only_artifact, images, confidence)
    answer = _answer(low, high, allowed)
    needed = (
        None
        if answer != "too few images"
        else images_needed(only_reference, only_artifact, images, allowed, confidence)
    )
    drop = (only_reference - only_artifact) / images
    p_value = mcnemar(only_reference, only_artifact)
    return Paired(images, only_reference, only_artifact, drop, low, high, confidence, p_value, allowed, answer, needed)


def drop_interval(b: int, c: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper limit of the drop, each exceeded with a probability of at most 1 - `confidence`.

    A drop above 0 exceeds the upper limit only if psi or theta exceeds its own upper limit, one below 0 only if psi is
    below its lower limit or theta above its upper one; so each limit of psi may have the whole share `SPENT`.
    """
    error = 1.0 - confidence
    m = b + c
    rates = clopper_pearson(m, n, error * SPENT)
    shares = clopper_pearson(b, m, error * (1.0 - SPENT)) if m else (0.0, 1.0)
    low, high = 2.0 * shares[0] - 1.0, 2.0 * shares[1] - 1.0
    return low * (rates[1] if low < 0 else rates[0]), high * (rates[1] if high > 0 else rates[0])


def clopper_pearson(count: int, total: int, error: float) -> tuple[float, float]:
    """The exact limits of a probability of which `count` of `total` were seen; each fails with probability `error`."""
    low = 0.0 if count == 0 else _root(lambda p: _upper_tail(count, total, p), error)
    high = 1.0 if count == total else _root(lambda p: 1.0 - _upper_tail(count + 1, total, p), error, rising=False)
    return low, high


def mcnemar(b: int, c: int) -> float:
    """The two-sided p-value of the exact test of McNemar: 1 where nothing differs."""
    m = b + c
    return min(1.0, 2.0 * (1.0 - _upper_tail(min(b, c) + 1, m, 0.5))) if m else 1.0


def images_needed(b: int, c: int, n: int, allowed: float, confidence: float = 0.95) -> int | None:
    """How many images would decide if the rates stay as they are; None if they are at the limit itself."""

    def decided(images: int) -> bool:
        scaled_b, scaled_c = round(b * images / n), round(c * images / n)
        if scaled_b + scaled_c > images:
            return False
        return _answer(*drop_interval(scaled_b, scaled_c, images, confidence), allowed) != "too few images"

    upper = n
    while not decided(upper):
        upper *= 2
        if upper > MOST_IMAGES:
            return None
    lower = upper // 2
    while upper - lower > max(1, upper // 200):
        middle = (lower + upper) // 2
        lower, upper = (lower, middle) if decided(middle) else (middle, upper)
    return upper


def _answer(low: float, high: float, allowed: float) -> Answer:
    return "within" if high <= allowed else "beyond" if low > allowed else "too few images"


def _upper_tail(count: int, total: int, p: float) -> float:
    """P(X >= count) for X binomial with `total` and `p`, by the continued fraction of the incomplete beta function."""
    if count <= 0:
        return 1.0
    if count > total or p <= 0.0:
        return 0.0
    return 1.0 if p >= 1.0 else _incomplete_beta(float(count), float(total - count + 1), p)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), as in Numerical Recipes, section 6.4, to about 1e-14."""
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, 1.0 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 20_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            result *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return result


def _root(function: Callable[[float], float], value: float, *, rising: bool = True) -> float:
    """Where the monotonic `function` of a probability is `value`."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        below = function(middle) < value
        low, high = (middle, high) if below == rising else (low, middle)
    return (low + high) / 2.0


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share, for display beside an accuracy."""
    if not total:
        return 0.0, 1.0
    share, square = count / total, z * z / total
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def confusion(labels: Indices, predicted: Indices, classes: int) -> list[list[int]]:
    """Rows are the true classes, columns the predicted ones."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return [[int(each) for each in row] for row in table]
