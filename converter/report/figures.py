"""The figures of report.html as coordinates; the template draws them.

The figures of an output are `WIDTH` x `HEIGHT` units, with the plot inside the margins; that of the layers is `WIDE`
units wide. Positions are rounded to a tenth of a unit, which is not visible, and points at the same position are drawn
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.core.results import LayerError, Points

WIDTH, WIDE, HEIGHT = 300, 400, 236
LEFT, RIGHT, TOP, BOTTOM = 42, 18, 22, 40
BINS = 28

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis, in units of the figure."""

    at: float
    label: str


@dataclass(frozen=True)
class Scatter:
    """`path` has a zero-length stroke at each distinct position; `count` is the number of elements."""

    path: str
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]
    count: int


@dataclass(frozen=True)
class Bar:
    """A bar of the histogram, from the bottom of the plot upwards."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Histogram:
    """Bars of |artifact - reference|, and a step line of the noise of the same elements ("" if it was not measured).

    `equal` counts elements without a difference, which cannot be shown on a logarithmic axis; `noiseless` counts those
    whose noise is 0.
    """

    bars: tuple[Bar, ...]
    line: str
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]
    count: int
    equal: int
    noiseless: int


@dataclass(frozen=True)
class LayerChart:
    """The error of each layer on a logarithmic axis: points `within` their tolerance and `beyond` it.

    `tolerance` and `noise` are lines. `first` is the horizontal position of the first layer above its tolerance, None
    if there is no such layer.
    """

    within: str
    beyond: str
    tolerance: str
    noise: str
    first: float | None
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]


def layer_chart(layers: Sequence[LayerError], first: int | None) -> LayerChart:
    """Errors (vertical) by layer (horizontal).

    Infinite errors are drawn at the upper end, errors of 0 at the lower end, unknown ones not at all. `layers` has at
    least one entry; `first` is an index into it.
    """
    known = [value for each in layers for value in (each.error, each.tolerance, each.noise) if value is not None]
    logs = [math.log10(value) for value in known if 0 < value < math.inf] or [-7.5]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)

    def across(place: float) -> str:
        return _number(float(_across(place / len(layers), WIDE)))

    def up(value: float) -> str:
        log = high if not value < math.inf else math.log10(value) if value > 0 else low
        return _number(float(_up((min(max(log, low), high) - low) / (high - low))))

    def line(values: Sequence[float | None]) -> str:
        steps = []
        for place, value in enumerate(values):
            if value is not None:
                follows = place > 0 and values[place - 1] is not None
                begin = f"V{up(value)}" if follows else f"M{across(place)} {up(value)}"
                steps.append(f"{begin}H{across(place + 1)}")
        return "".join(steps)

    dots = {False: "", True: ""}
    for place, each in enumerate(layers):
        if each.error is not None:
            dots[not each.error <= each.tolerance] += f"M{across(place + 0.5)} {up(each.error)}h0"
    step = next(step for step in _ROUND if len(layers) <= 8 * step)
    decades = range(low, high + 1, max(1, math.ceil((high - low) / 6)))
    return LayerChart(
        dots[False],
        dots[True],
        line([each.tolerance for each in layers]),
        line([each.noise for each in layers]),
        None if first is None else float(across(first + 0.5)),
        tuple(Tick(float(across(number - 0.5)), str(number)) for number in range(step, len(layers) + 1, step)),
        tuple(Tick(float(up(10.0**each)), f"1e{each}") for each in decades),
    )


_ROUND = [base * 10**power for power in range(12) for base in (1, 2, 5)]


def scatter(points: Points) -> Scatter:
    """Artifact (vertical) over reference (horizontal), with the same scale on both axes."""
    x, y = _finite(points.reference, points.actual)
    both = np.concatenate([x, y]) if x.size else np.zeros(1)
    low, high = float(both.min()), float(both.max())
    room = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    across, up = _across((x - low) / (high - low)), _up((y - low) / (high - low))
    where = np.unique(np.round(np.stack([across, up], axis=-1), 1), axis=0)
    path = "".join(f"M{_number(a)} {_number(b)}h0" for a, b in where)
    values = _nice(low, high)
    return Scatter(
        path,
        tuple(Tick(round(float(_across((each - low) / (high - low))), 1), f"{each:.4g}") for each in values),
        tuple(Tick(round(float(_up((each - low) / (high - low))), 1), f"{each:.4g}") for each in values),
        int(x.size),
    )


def histogram(points: Points) -> Histogram:
    """The distribution of |difference|, on a logarithmic axis of whole decades, together with that of the noise."""
    x, y = _finite(points.reference, points.actual)
    errors = np.abs(y - x)
    noise = np.zeros(0) if points.noise is None else points.noise[np.isfinite(points.noise)]
    shown, known = errors[errors > 0], noise[noise > 0]
    both = np.log10(np.concatenate([shown, known])) if shown.size + known.size else np.array([-7.5])
    low, high = math.floor(float(both.min())), math.ceil(float(both.max()))
    high = max(high, low + 1)
    edges = np.linspace(low, high, BINS + 1)
    of_errors = np.histogram(np.log10(shown), edges)[0]
    of_noise = np.histogram(np.log10(known), edges)[0]
    top = int(max(of_errors.max(), of_noise.max(), 1))
    sides = _across((edges - low) / (high - low))
    bottom = HEIGHT - BOTTOM
    bars = tuple(
        Bar(round(float(left), 1), round(float(_up(count / top)), 1), round(float(right - left) - 0.8, 1),
            round(bottom - float(_up(count / top)), 1))
        for count, left, right in zip(of_errors, sides[:-1], sides[1:], strict=True)
        if count
    )  # fmt: skip
    line = ""
    if known.size:
        steps = "".join(
            f"V{_number(float(_up(count / top)))}H{_number(float(right))}"
            for count, right in zip(of_noise, sides[1:], strict=True)
        )
        line = f"M{_number(float(sides[0]))} {bottom}{steps}V{bottom}"
    step = max(1, math.ceil((high - low) / 5))
    decades = range(low, high + 1, step)
    heights = sorted({0, top // 2, top})
    return Histogram(
        bars,
        line,
        tuple(Tick(round(float(_across((each - low) / (high - low))), 1), f"1e{each}") for each in decades),
        tuple(Tick(round(float(_up(each / top)), 1), str(each)) for each in heights),
        int(errors.size),
        int(errors.size - shown.size),
        int(noise.size - known.size),
    )


def _finite(one: Values, other: Values) -> tuple[Values, Values]:
    kept = np.isfinite(one) & np.isfinite(other)
    return one[kept], other[kept]


def _across(share: Values | float, width: int = WIDTH) -> Values:
    return np.asarray(LEFT + np.asarray(share) * (width - LEFT - RIGHT))


def _up(share: Values | float) -> Values:
    return np.asarray(HEIGHT - BOTTOM - np.asarray(share) * (HEIGHT - TOP - BOTTOM))


def _nice(low: float, high: float) -> list[float]:
    """Three to six round values between `low` and `high`."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough)
    first = math.ceil(low / step)
    return [0.0 if each == 0 else each * step for each in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
