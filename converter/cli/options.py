"""The options that several commands share, as decorators, and what collects their values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.core.errors import UsageError

if TYPE_CHECKING:
    from converter.core.data import SourceOptions

_SHAPE = re.compile(r"[0-9]+([x,][0-9]+)*")


def _shape(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    clean = text.strip().strip("()[]").replace(" ", "").replace("\N{MULTIPLICATION SIGN}", "x")
    if not _SHAPE.fullmatch(clean):
        raise UsageError(f"--input-shape {text}: not a shape\nwrite height, width and channels: 224x224x3")
    sizes = tuple(int(size) for size in re.split("[x,]", clean))
    if 0 in sizes:
        raise UsageError(f"--input-shape {text}: every size is at least 1")
    return sizes


def _kwargs(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        raise UsageError(f"--kwargs: not JSON: {error}\nwrite an object: '{{\"classes\": 10}}'") from error
    if not isinstance(value, dict):
        raise UsageError("--kwargs: must be a JSON object: '{\"classes\": 10}'")
    return value


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How to judge, and where the report goes; `converter.cli.delivery.wishes` collects the latter."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("--quiet", "-q", is_flag=True, help="No progress on standard error."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document."),
        click.option("--tolerance", type=float, help="Replace the tolerance that the measured noise gives."),
        click.option("--growth", type=float, metavar="FACTOR",
                     help="By which an error may exceed the baseline's. [default: 2]"),
        click.option("--baseline", type=click.Path(path_type=Path), metavar="REPORT.JSON",
                     help="Fail where an error grew, an operator count changed or a row is gone."),
        click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a page."),
        click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write it as JUnit XML."),
        click.option("--device", default="cpu", show_default=True, help="cpu, or cuda for onnxruntime on a GPU too."),
    ):  # fmt: skip
        function = option(function)
    return function


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that can be said about a model; `source` collects it."""
    for option in (
        click.option("--kwargs", callback=_kwargs, metavar="JSON", help="Arguments of the builder."),
        click.option("--builder", metavar="MODULE:FUNCTION", help="Builds the model of a weights-only file."),
        click.option("--custom-objects", multiple=True, metavar="MODULE", help="Module with your layers; repeatable."),
        click.option("--trust", is_flag=True, help="Let the model file run the code that it holds."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of samples, weights."),
        click.option("--groups", type=click.Choice(["preserve", "as-written"]), default="preserve", show_default=True,
                     help="For Lambda slices that all read the same channels."),
        click.option("--logits", is_flag=True, help="Leave the final softmax out."),
        click.option("--input-shape", callback=_shape, help="Height, width and channels: 224x224x3."),
        click.option("--classes", type=click.IntRange(min=1), help="Number of classes of a zoo model."),
        click.option("--weights", help="A .keras, .weights.h5 or .h5 file, or imagenet. [default: seeded]"),
    ):  # fmt: skip
        function = option(function)
    return function


def source(given: dict[str, Any]) -> SourceOptions:
    """The SourceOptions in the options `given`."""
    from converter.core.data import SourceOptions

    names = ("weights", "classes", "input_shape", "logits", "seed", "trust", "custom_objects", "builder", "kwargs")
    return SourceOptions(**{name: given[name] for name in names})
