"""Draw a convolution in four groups as it is written with Lambda layers, and after the rewrite: two SVG files.

    python docs/draw_groups.py            writes docs/images/groups.svg and docs/images/groups-late.svg
    python docs/draw_groups.py --check    exit 1 where a file is not what this script draws

The boxes are the layers of Keras models, before and after `converter.rewrites.rewrite`. Which channels a slice reads is
found as the rewrite finds it: the slice is run on channel numbers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

IMAGES = Path(__file__).resolve().parent / "images"
GROUPS, CHANNELS = 4, 16
SIZE = CHANNELS // GROUPS

BOX, TALL, GAP, ROW = (134, 40, 12, 72)  # width and height of a box, between two boxes, from row to row
STRIP = 12  # height that a row of channels adds to its box
MARGIN, TITLE, PANEL_GAP = 20, 50, 40

STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .box { fill: #f6f8fa; stroke: #57606a }
  .changed { stroke: #0969da; stroke-width: 2 }
  .wrong { stroke: #cf222e; stroke-width: 2 }
  .edge { stroke: #57606a; fill: none }
  .head { fill: #57606a }
  .none { fill: #d8dee4 }
  .g0 { fill: #0969da } .g1 { fill: #1a7f37 } .g2 { fill: #9a6700 } .g3 { fill: #8250df }
  text { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 11px; fill: #57606a; text-anchor: middle }
  .name { font-weight: 600; font-size: 12px; fill: #1f2328 }
  .title { font-weight: 600; font-size: 14px; fill: #1f2328; text-anchor: start }
  .note { text-anchor: start }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d }
    .box { fill: #161b22; stroke: #8b949e }
    .changed { stroke: #58a6ff }
    .wrong { stroke: #f85149 }
    .edge { stroke: #8b949e }
    .head { fill: #8b949e }
    .none { fill: #30363d }
    .g0 { fill: #58a6ff } .g1 { fill: #3fb950 } .g2 { fill: #d29922 } .g3 { fill: #bc8cff }
    text { fill: #9198a1 }
    .name, .title { fill: #f0f6fc }
  }
"""


@dataclass(frozen=True)
class Box:
    """A layer: where it stands, what it reads, and for a slice or groups which group has each channel (-1: none)."""

    name: str
    detail: str
    row: int
    column: float
    inputs: tuple[str, ...]
    channels: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Enough for its texts."""
        return max(BOX, 7 * len(self.detail), 8 * len(self.name))


@dataclass(frozen=True)
class Panel:
    """A model with its title; `mark` is the class of the boxes that the picture is about."""

    title: str
    note: str
    boxes: tuple[Box, ...]
    mark: str
    marked: frozenset[str]

    @property
    def width(self) -> int:
        """Enough for the widest row and for the title."""
        beside = max(sum(other.row == box.row for other in self.boxes) for box in self.boxes)
        widest = max(box.width for box in self.boxes)
        return max(beside * (BOX + GAP) - GAP, widest, 9 * len(self.title), 6 * len(self.note))

    @property
    def height(self) -> int:
        return max(box.row for box in self.boxes) * ROW + TALL + STRIP


def block(late: bool) -> Any:
    """1x1 convolution, four slices with a convolution each, their concatenation, ReLU.

    With `late` the Lambda layers look `c` up when they run, as in the tutorials.
    """
    import keras
    from keras import layers

    image = keras.Input((8, 8, 32), name="input")
    reduced = layers.Conv2D(CHANNELS, 1, use_bias=False, name="reduce")(image)
    groups = []
    for c in range(GROUPS):
        if late:
            function = lambda x: x[..., c * SIZE : (c + 1) * SIZE]  # noqa: E731, B023  the fault that is drawn
        else:
            function = lambda x, c=c: x[..., c * SIZE : (c + 1) * SIZE]  # noqa: E731
        part = layers.Lambda(function, output_shape=(8, 8, SIZE), name=f"slice{c}")(reduced)
        groups.append(layers.Conv2D(SIZE, 3, padding="same", use_bias=False, name=f"conv{c}")(part))
    joined = layers.Concatenate(name="body")(groups)
    return keras.Model(image, layers.ReLU(name="relu")(joined), name="block")


def boxes(model: Any) -> tuple[Box, ...]:
    """The layers of `model` in rows: each below everything that it reads."""
    from converter.rewrites.graph import Graph

    graph = Graph(model)
    rows: dict[str, int] = {}
    for node in graph.nodes:
        before = [rows[graph.producer(tensor).operation.name] for tensor in node.input_tensors]
        rows[node.operation.name] = max(before, default=-1) + 1
    found = []
    for node in graph.nodes:
        name = node.operation.name
        beside = sorted(other for other, row in rows.items() if row == rows[name])
        inputs = tuple(graph.producer(tensor).operation.name for tensor in node.input_tensors)
        column = beside.index(name) - (len(beside) - 1) / 2
        found.append(Box(name, _detail(node), rows[name], column, inputs, _channels(graph, node)))
    return tuple(found)


def _detail(node: Any) -> str:
    layer, kind = node.operation, type(node.operation).__name__
    if kind == "Conv2D":
        size = "x".join(map(str, layer.kernel_size))
        groups = f", {layer.groups} groups" if layer.groups > 1 else ""
        return f"Conv2D {size}, {node.input_tensors[0].shape[-1]} to {layer.filters}{groups}"
    if kind == "InputLayer":
        return f"{node.outputs[0].shape[-1]} channels"
    return {"GetItem": "slice (no Lambda)"}.get(kind, kind)


def _channels(graph: Any, node: Any) -> tuple[int, ...]:
    """By input channel the group that reads it, -1 where none does; empty for what is neither slice nor groups."""
    from converter.rewrites.probe import sliced_channels

    kind = type(node.operation).__name__
    if kind in ("Lambda", "GetItem"):
        read = sliced_channels(graph, node.outputs[0], -1)
        return tuple(read[0] // SIZE if channel in read else -1 for channel in range(CHANNELS))
    groups = getattr(node.operation, "groups", 1)
    return tuple(channel * groups // CHANNELS for channel in range(CHANNELS)) if groups > 1 else ()


def panel(title: str, model: Any, mark: str = "", about: tuple[str, ...] = ()) -> Panel:
    """`model` with its number of layers below the title; the boxes whose name begins with one of `about` are marked."""
    found = boxes(model)
    marked = frozenset(box.name for box in found if about and box.name.startswith(about))
    return Panel(title, f"{len(found)} layers and operations", found, mark, marked)


def svg(panels: tuple[Panel, ...], description: str) -> str:
    """The panels side by side on a card of their own, so that neither a light nor a dark page matters."""
    width = 2 * MARGIN + sum(each.width for each in panels) + PANEL_GAP * (len(panels) - 1)
    height = 2 * MARGIN + TITLE + max(each.height for each in panels)
    parts = []
    left = MARGIN
    for each in panels:
        parts += _panel(each, left)
        left += each.width + PANEL_GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(description)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(shown: Panel, left: int) -> Iterator[str]:
    yield f'<text class="title" x="{left}" y="{MARGIN + 12}">{escape(shown.title)}</text>'
    yield f'<text class="note" x="{left}" y="{MARGIN + 30}">{escape(shown.note)}</text>'
    middle, top = left + shown.width / 2, MARGIN + TITLE
    places = {box.name: (middle + box.column * (BOX + GAP), top + box.row * ROW) for box in shown.boxes}
    tall = {box.name: TALL + (STRIP if box.channels else 0) for box in shown.boxes}
    for box in shown.boxes:
        x, y = places[box.name]
        for name in box.inputs:
            start_x, start_y = places[name]
            start_y += tall[name]
            bend = (y - start_y) / 2
            yield (
                f'<path class="edge" d="M{start_x:g} {start_y:g} C{start_x:g} {start_y + bend:g} '
                f'{x:g} {y - bend:g} {x:g} {y - 5:g}"/>'
            )
        if box.inputs:
            yield f'<path class="head" d="M{x:g} {y:g} l-4 -7 h8 z"/>'
    for box in shown.boxes:
        yield from _box(box, *places[box.name], tall[box.name], shown.mark if box.name in shown.marked else "")


def _box(box: Box, x: float, y: float, tall: int, mark: str) -> Iterator[str]:
    left = x - box.width / 2
    yield f'<rect class="box {mark}" x="{left:g}" y="{y:g}" width="{box.width}" height="{tall}" rx="5"/>'
    yield f'<text class="name" x="{x:g}" y="{y + 16:g}">{escape(box.name)}</text>'
    yield f'<text x="{x:g}" y="{y + 32:g}">{escape(box.detail)}</text>'
    for channel, group in enumerate(box.channels):
        place = x - 4 * len(box.channels) + 8 * channel
        kind = f"g{group}" if group >= 0 else "none"
        yield f'<rect class="{kind}" x="{place + 1:g}" y="{y + TALL - 1:g}" width="6" height="7"/>'


def pictures() -> dict[str, str]:
    """The content of each file, by name."""
    from converter.rewrites import rewrite

    right, late = block(late=False), block(late=True)
    changed, kept = rewrite(right).model, rewrite(late).model
    meant = rewrite(late, groups="as-written").model
    return {
        "groups.svg": svg(
            (
                panel("As written", right, "changed", ("slice", "conv", "body")),
                panel("After the rewrite", changed, "changed", ("body",)),
            ),
            "Four Lambda slices with a convolution each become one convolution in four groups",
        ),
        "groups-late.svg": svg(
            (
                panel("As written: c is bound late", late, "wrong", ("slice",)),
                panel("After the rewrite", kept, "changed", ("body",)),
                panel("--groups as-written", meant, "changed", ("body",)),
            ),
            "Four Lambda slices that all read the last four channels become one slice and one convolution; "
            "with --groups as-written, a convolution in four groups",
        ),
    }


def main() -> int:
    """Write the files, or compare with them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files that are there, and write nothing")
    check = parser.parse_args().check
    status = 0
    for name, text in pictures().items():
        path = IMAGES / name
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{name}: not what this script draws; run python docs/draw_groups.py\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
