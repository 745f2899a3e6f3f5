"""Intervals, percentiles that a sample supports, and when two files differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from converter.bench.figures import CONTROL_LEVEL, LEVEL, Estimate, answer, latency, percentile, ratio, too_noisy


def rounds(seed: int, scale: float = 1.0, noise: float = 0.02) -> list[list[float]]:
    """Times of 40 rounds, whose level wanders as a machine's does."""
    rng = np.random.default_rng(seed)
    levels = 1e-3 * np.exp(rng.normal(0, noise, 40))
    return [list(scale * level * np.exp(rng.normal(0, 0.01, 25))) for level in levels]


@pytest.mark.parametrize(("share", "fewest"), [(0.9, 36), (0.99, 368)])
def test_a_percentile_needs_a_sample_that_bounds_it(share: float, fewest: int) -> None:
    times = np.sort(np.random.default_rng(0).random(fewest))
    assert percentile(times[: fewest - 1], share) is None
    found = percentile(times, share)
    assert found is not None
    assert found.low <= found.value <= found.high


def test_the_interval_of_a_percentile_covers_it() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        found = percentile(np.sort(rng.random(100)), 0.9)
        assert found is not None
        inside += found.low <= 0.9 <= found.high
    assert inside >= 0.92 * 300


def test_the_interval_of_a_median_covers_it() -> None:
    found = latency(rounds(0), seed=0)
    assert found.inferences == 1000
    assert found.rounds == 40
    assert found.median.low < 1e-3 < found.median.high
    assert found.p90 is not None
    assert found.p90.value > found.median.value


def test_a_faster_file_is_found_and_an_equal_one_is_not() -> None:
    control = ratio(rounds(1), rounds(2), 0, CONTROL_LEVEL)
    assert not too_noisy(control)
    faster, slower = (ratio(rounds(3, scale), rounds(4), 0, LEVEL) for scale in (0.7, 1.4))
    assert faster.high < 1 < slower.low
    assert (answer(faster, control), answer(slower, control)) == ("faster", "slower")
    assert answer(ratio(rounds(5), rounds(6), 0, LEVEL), control) == "no difference shown"


def test_a_difference_that_the_control_has_too_is_none() -> None:
    """A file against itself between 0.8 and 1.2 says that 10 percent cannot be told."""
    wide = Estimate(1.0, 0.8, 1.2)
    assert answer(Estimate(0.9, 0.88, 0.92), wide) == "no difference shown"
    assert answer(Estimate(0.5, 0.45, 0.55), wide) == "faster"


def test_a_machine_that_tells_a_file_from_itself_compares_nothing() -> None:
    noisy = Estimate(1.3, 1.2, 1.4)
    assert too_noisy(noisy)
    assert answer(Estimate(0.1, 0.09, 0.11), noisy) == "no difference shown"
    assert not too_noisy(Estimate(1.001, 1.0005, 1.002))


def test_drift_that_both_files_share_is_no_difference() -> None:
    """The machine halves its speed in the middle; rounds are paired, so the ratio stays narrow."""
    drift = [1.0] * 20 + [2.0] * 20
    one, other = (
        [[time * factor for time in each] for each, factor in zip(rounds(seed, noise=0.0), drift, strict=True)]
        for seed in (7, 8)
    )
    found = ratio(one, other, 0, LEVEL)
    assert abs(math.log(found.value)) < 0.01
    assert found.high / found.low < 1.02
