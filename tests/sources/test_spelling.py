"""The text of --input-shape."""

from __future__ import annotations

from typing import Any

import pytest

from converter.core.errors import UsageError
from converter.sources.spelling import only_shape, read_shapes, shapes_text


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("224x224x3", (224, 224, 3)),
        ("(224, 224, 3)", (224, 224, 3)),
        ("224×224×3", (224, 224, 3)),  # noqa: RUF001
        ("any x any x3", (None, None, 3)),
        ("any,any,3", (None, None, 3)),
        ("?x?x3", (None, None, 3)),
        ("ANY", (None,)),
        ("left=64x64x1,right=any,any,1", {"left": (64, 64, 1), "right": (None, None, 1)}),
        ("image = 8x8x3, time=()", {"image": (8, 8, 3), "time": ()}),
    ],
)
def test_spelling(text: str, shapes: Any) -> None:
    assert read_shapes(text) == shapes
    assert read_shapes(shapes_text(shapes)) == shapes


NO_SHAPES = (
    "",
    "x",
    "8x",
    "8xx8",
    "8x0x3",
    "-8x8x3",
    "8.5x8",
    "left=8x8x3,left=8x8x3",
    "=8x8x3",
    "left=",
    "a=b",
    "manyx3",
)


@pytest.mark.parametrize("text", NO_SHAPES)
def test_text_that_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match="--input-shape"):
        read_shapes(text)


def test_a_source_of_one_input_takes_no_names() -> None:
    assert only_shape((8, 8, 3)) == (8, 8, 3)
    with pytest.raises(UsageError, match="left=8x8x3: this source has one input"):
        only_shape({"left": (8, 8, 3)})
