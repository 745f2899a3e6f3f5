"""Times as medians with intervals, percentiles that the sample supports, and ratios with a verdict.

Times of one round are alike, so that the round is what is drawn again: intervals are bootstraps over rounds. A ratio
pairs the rounds of two files, which were measured one shortly after the other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from converter.core.distance import Float64

RESAMPLES = 2000
LEVEL = 0.95
CONTROL_LEVEL = 0.99
LEAST = 0.01
"""The smallest relative difference that is ever called one"""

FEWEST_ROUNDS = 5

Answer = Literal["faster", "slower", "no difference shown"]


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """The seconds of one inference: the median, the 90th percentile (None: too few), and how many were measured."""

    median: Estimate
    p90: Estimate | None
    inferences: int
    rounds: int


def latency(rounds: Sequence[Sequence[float]], seed: int) -> Latency:
    """The latency from the times of each round."""
    medians = np.asarray([statistics.median(each) for each in rounds])
    times = np.sort(np.concatenate([np.asarray(each) for each in rounds]))
    return Latency(_bootstrap(medians, seed, LEVEL), percentile(times, 0.9), len(times), len(rounds))


def percentile(times: Float64, share: float) -> Estimate | None:
    """The percentile `share` of sorted `times` with its interval from order statistics.

    None if the sample has no value that bounds it from above: at 90 % for fewer than 36 times, at 99 % for fewer than
    368.
    """
    count = len(times)
    tail = (1 - LEVEL) / 2
    counts = np.arange(count + 1)
    logs = np.array([_log_choose(count, int(k)) for k in counts])
    with np.errstate(divide="ignore"):
        chances = np.exp(logs + counts * math.log(share) + (count - counts) * math.log(1 - share))
    below = np.cumsum(chances)  # below[k]: at most k of the times are below the percentile
    first = int(np.searchsorted(below, tail, side="right"))
    last = int(np.searchsorted(below, 1 - tail, side="left"))
    if last >= count or first < 1:
        return None
    place = min(count - 1, math.ceil(share * count) - 1)
    return Estimate(float(times[place]), float(times[first - 1]), float(times[last]))


def ratio(rounds: Sequence[Sequence[float]], base: Sequence[Sequence[float]], seed: int, level: float) -> Estimate:
    """How many times as long `rounds` take as `base`, round by round."""
    logs = [
        math.log(statistics.median(one) / statistics.median(other)) for one, other in zip(rounds, base, strict=True)
    ]
    found = _bootstrap(np.asarray(logs), seed, level)
    return Estimate(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def too_noisy(control: Estimate) -> bool:
    """Whether a file, measured against itself, seems to differ: nothing can be compared on such a machine."""
    differs = control.low > 1 or control.high < 1
    return differs and abs(math.log(control.value)) > LEAST


def resolution(control: Estimate) -> float:
    """The relative difference below which the machine cannot tell two files apart, from a file against itself."""
    return max(LEAST, abs(math.log(control.low)), abs(math.log(control.high)))


def answer(found: Estimate, control: Estimate) -> Answer:
    """What the interval of a ratio shows, given the ratio of a file with itself."""
    if too_noisy(control):
        return "no difference shown"
    limit = resolution(control)
    if math.log(found.high) < 0 and math.log(found.value) < -limit:
        return "faster"
    if math.log(found.low) > 0 and math.log(found.value) > limit:
        return "slower"
    return "no difference shown"


def _bootstrap(values: Float64, seed: int, level: float) -> Estimate:
    """The median of `values` and the interval of the medians of samples drawn from them with replacement."""
    rng = np.random.default_rng(seed)
    drawn = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(float(np.median(values)), float(low), float(high))


def _log_choose(count: int, some: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(some + 1) - math.lgamma(count - some + 1)
