"""The curves of a training as an SVG picture: loss and accuracy by epoch, of the training and the validation images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.core.foreign import Json
from converter.report.figures import Tick

TEMPLATES = Path(__file__).with_name("templates")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 360, 240, 48, 26, 36
_GRID = 4


@dataclass(frozen=True)
class Panel:
    """One diagram: `lines` are paths by name, `ticks` labelled heights and places, all in units of the picture."""

    title: str
    left: int
    lines: tuple[tuple[str, str], ...]
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]


def curves_svg(title: str, epochs: Sequence[Mapping[str, Json]], best: int) -> str:
    """The picture for `epochs`, records of losses and accuracies as in history.json; `best` is an index."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    panels = [
        _panel(0, "loss", epochs, ("loss", "validation_loss")),
        _panel(WIDTH, "accuracy", epochs, ("accuracy", "validation_accuracy")),
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("curves.svg.j2").render(
        title=title, panels=panels, best=_across(best, len(epochs)), width=2 * WIDTH, height=HEIGHT,
        top=TOP, bottom=HEIGHT - BOTTOM, inner=WIDTH - LEFT - 12,
    )  # fmt: skip


def _panel(left: int, title: str, epochs: Sequence[Mapping[str, Json]], keys: tuple[str, str]) -> Panel:
    values = [[float(each[key]) for each in epochs] for key in keys]
    flat = [each for line in values for each in line if math.isfinite(each)] or [0.0]
    low, high = min(flat), max(flat)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low), 1)

    lines = tuple(
        (
            name,
            " ".join(
                f"{'M' if not index else 'L'}{_across(index, len(line))} {up(each)}" for index, each in enumerate(line)
            ),
        )
        for name, line in zip(("training", "validation"), values, strict=True)
    )
    steps = [low + (high - low) * step / _GRID for step in range(_GRID + 1)]
    every = max(1, math.ceil(len(epochs) / 8))
    return Panel(
        title,
        left,
        lines,
        tuple(Tick(_across(index, len(epochs)), str(index + 1)) for index in range(0, len(epochs), every)),
        tuple(Tick(up(each), f"{each:.3g}") for each in steps),
    )


def _across(index: int, count: int) -> float:
    return round(LEFT + (WIDTH - LEFT - 12) * (index / (count - 1) if count > 1 else 0.5), 1)
