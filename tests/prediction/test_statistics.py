"""The statistics of two classifiers on the same images: their limits hold as often as they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from converter.prediction.statistics import (
    clopper_pearson,
    confusion,
    drop_interval,
    images_needed,
    mcnemar,
    paired,
    wilson,
)


def binomial(count: int, total: int, p: float) -> float:
    return math.comb(total, count) * p**count * (1 - p) ** (total - count)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (10, 10), (15, 800), (1, 1), (0, 1)])
@pytest.mark.parametrize("error", [0.025, 0.05])
def test_the_exact_limits_of_a_share(count: int, total: int, error: float) -> None:
    """At the limits the observed count, or a more extreme one, has just the given probability."""
    low, high = clopper_pearson(count, total, error)
    if count:
        assert sum(binomial(k, total, low) for k in range(count, total + 1)) == pytest.approx(error, rel=1e-8)
    else:
        assert low == 0.0
    if count < total:
        assert sum(binomial(k, total, high) for k in range(count + 1)) == pytest.approx(error, rel=1e-8)
    else:
        assert high == 1.0


def test_the_exact_test_of_mcnemar() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(10, 0) == pytest.approx(2 / 2**10)
    assert mcnemar(3, 11) == pytest.approx(2 * sum(math.comb(14, k) for k in range(4)) / 2**14)
    assert mcnemar(3, 11) == mcnemar(11, 3)


@pytest.mark.parametrize("psi", [0.02, 0.1, 0.4, 0.95])
@pytest.mark.parametrize("theta", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_limits_of_the_drop_hold(psi: float, theta: float) -> None:
    """Over all outcomes of 30 images, each limit fails with a probability of at most 5 %."""
    n, p1, p2 = 30, psi * theta, psi * (1 - theta)
    drop, too_low, too_high = p1 - p2, 0.0, 0.0
    for b, c in itertools.product(range(n + 1), repeat=2):
        if b + c > n:
            continue
        rest = n - b - c
        chance = math.factorial(n) / math.factorial(b) / math.factorial(c) / math.factorial(rest)
        chance *= p1**b * p2**c * (1 - psi) ** rest
        low, high = drop_interval(b, c, n)
        too_low += chance * (high < drop - 1e-12)
        too_high += chance * (low > drop + 1e-12)
    assert too_low <= 0.05
    assert too_high <= 0.05


def test_the_three_answers() -> None:
    assert paired(0, 0, 1000, 0.01).answer == "within"
    assert paired(60, 0, 1000, 0.01).answer == "beyond"
    few = paired(0, 0, 100, 0.01)
    assert few.answer == "too few images"
    assert few.needed is not None
    assert paired(0, 0, few.needed, 0.01).answer == "within"
    assert paired(0, 0, few.needed // 2, 0.01).answer == "too few images"


def test_a_rate_at_the_limit_is_never_decided() -> None:
    assert images_needed(10, 0, 1000, 0.01) is None
    assert paired(10, 0, 1000, 0.01).needed is None


def test_more_images_for_more_discordant_ones() -> None:
    assert images_needed(0, 0, 100, 0.01) < images_needed(3, 3, 200, 0.01)  # type: ignore[operator]


def test_what_makes_no_sense() -> None:
    for arguments in ((0, 0, 0), (3, 3, 5), (-1, 0, 5)):
        with pytest.raises(ValueError, match="images"):
            paired(*arguments, 0.01)


def test_intervals_and_matrices_for_display() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    table = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert table == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
