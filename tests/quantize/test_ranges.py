"""Ranges from what was seen, and scales from ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converter.core.precision import METHODS, Method
from converter.quantize.ranges import Seen, range_of, scale_of, spread


def seen(array: np.ndarray) -> Seen:
    found = Seen.of(array)
    return found.counted(array, (found.low, found.high))


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.7])
@pytest.mark.parametrize("high", [0.7, 5.0])
def test_zero_and_both_ends_are_represented(low: float, high: float) -> None:
    scale = scale_of(low, high)
    assert -128 <= scale.zero_point <= 127
    assert scale.low <= min(low, 0.0) + scale.scale
    assert scale.high >= high - scale.scale
    assert scale.scale == np.float32(scale.scale)


def test_a_tensor_without_values_has_a_scale() -> None:
    assert scale_of(0.0, 0.0).scale == 1.0
    assert np.isfinite(scale_of(-1e-45, 0.0).scale)


@pytest.mark.parametrize("method", METHODS)
def test_an_outlier_moves_minmax_only(method: Method) -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.standard_normal(500_000), 400.0)
    _, high = range_of(seen(values), method)
    assert (high == 400.0) == (method == "minmax")
    assert high > 3.0


@pytest.mark.parametrize("method", METHODS)
def test_a_side_without_values_stays_empty(method: Method) -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal(100_000), 0.0)
    low, high = range_of(seen(values), method)
    assert low == 0.0
    assert high > 1.0


def test_two_halves_make_the_whole() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    whole = Seen.of(values)
    both = Seen.of(values[:300]) + Seen.of(values[300:])
    assert both.alike(whole)
    assert (both.low, both.high, both.count) == (whole.low, whole.high, whole.count)
    ends = (whole.low, whole.high)
    counted = Seen.of(values[:300]).counted(values[:300], ends) + Seen.of(values[300:]).counted(values[300:], ends)
    assert counted.bins is not None
    assert counted.bins.sum() == 1000
    assert not replace(whole, squares=whole.squares * 1.1).alike(whole)


def test_spread_is_relative_to_the_wider_range() -> None:
    assert spread((0.0, 1.0), (0.0, 1.0)) == 0.0
    assert spread((0.0, 1.0), (0.0, 2.0)) == 0.5
    assert spread((0.0, 0.0), (0.0, 0.0)) == 0.0
