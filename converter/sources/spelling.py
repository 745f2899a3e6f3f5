"""How the shapes of inputs are written on the command line: `224x224x3`, `?x?x3`, `left=64x64x1,right=64x64x1`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from converter.core.errors import UsageError

if TYPE_CHECKING:  # converter.core.data imports numpy, which the commands do not need
    from converter.core.data import Shape, ShapesByInput

_SIZE = r"(?:[0-9]+|\?|any)"
_SHAPE = re.compile(rf"{_SIZE}([x,]{_SIZE})*")
_NEXT = re.compile(r",(?=[^,=]*=)")
ADVICE = (
    "write height, width and channels: 224x224x3, ?x?x3 for any size, left=64x64x1,right=64x64x1 for several inputs"
)


def read_shapes(text: str) -> Shape | ShapesByInput:
    """The shape, or the shapes by the name of the input, that `text` says; None stands for any size.

    Raises UsageError for any other text.
    """
    if "=" not in text:
        return _shape(text, text)
    result: dict[str, Shape] = {}
    for part in _NEXT.split(text):
        name, _, shape = part.partition("=")
        if not name.strip() or name.strip() in result:
            raise UsageError(f"--input-shape {text}: each input needs a name of its own\n{ADVICE}")
        result[name.strip()] = () if shape.strip() == "()" else _shape(shape, text)
    return result


def only_shape(shapes: Shape | ShapesByInput) -> Shape:
    """The shape of the only input. Raises UsageError for shapes by name, which this source does not take."""
    if not isinstance(shapes, tuple):
        raise UsageError(
            f"--input-shape {shapes_text(shapes)}: this source has one input\nwrite its shape alone: 224x224x3"
        )
    return shapes


def shape_text(shape: Shape) -> str:
    """`shape` as the user writes it."""
    return "x".join("any" if size is None else str(size) for size in shape) or "()"


def shapes_text(shapes: Shape | ShapesByInput) -> str:
    """`shapes` as the user writes them."""
    return (
        shape_text(shapes) if isinstance(shapes, tuple) else ",".join(f"{k}={shape_text(v)}" for k, v in shapes.items())
    )


def _shape(text: str, whole: str) -> Shape:
    bare = text.strip().strip("()[]").replace(" ", "").replace("\N{MULTIPLICATION SIGN}", "x").lower()
    if not _SHAPE.fullmatch(bare):
        raise UsageError(f"--input-shape {whole}: not a shape\n{ADVICE}")
    sizes = tuple(None if size in ("?", "any") else int(size) for size in re.split("[x,]", bare))
    if 0 in sizes:
        raise UsageError(f"--input-shape {whole}: every size must be at least 1")
    return sizes
