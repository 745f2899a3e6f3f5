"""The options that several commands share, as decorators, and parameter types with shell completion.

`option` is click's, with an environment variable for each option.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from converter.cli.own_limit import within_own_limit
from converter.core.errors import UsageError
from converter.core.foreign import ClickValue, JsonObject
from converter.core.precision import PRECISIONS

if TYPE_CHECKING:  # converter.core.data imports numpy
    from converter.core.data import Shape, ShapesByInput

Function = Callable[..., Any]
PREFIX = "CNNEXPORT"


def variable_of(names: Sequence[str]) -> str:
    """The environment variable of the option with the spellings `names`: CNNEXPORT_INPUT_SHAPE for --input-shape."""
    return f"{PREFIX}_{max(names, key=len).lstrip('-').replace('-', '_').upper()}"


def option(*names: str, **settings: Any) -> Callable[[Function], Function]:
    """click.option, with its environment variable."""
    return click.option(*names, envvar=variable_of([name for name in names if name.startswith("-")]), **settings)


class Names(click.ParamType[str]):
    """Names that the shell completes; `known` is called only for completion. The pipeline checks the values.

    With `multiple`, one argument may contain several names separated by commas.
    """

    name = "name"

    def __init__(self, known: Callable[[], Iterable[str]], multiple: bool = False) -> None:
        self.known = known
        self.multiple = multiple

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self.matching(incomplete)

    def matching(self, incomplete: str) -> list[CompletionItem]:
        """Completions: the known names that start like the last name of `incomplete`, ignoring case."""
        before, comma, last = incomplete.rpartition(",") if self.multiple else ("", "", incomplete)
        return [CompletionItem(before + comma + name) for name in self.known() if name.lower().startswith(last.lower())]


class Source(Names):
    """A model: a name of the zoo, or a file."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self.matching(incomplete) or self.any_file(incomplete)

    def any_file(self, incomplete: str) -> list[CompletionItem]:
        """A completion that makes the shell complete file names."""
        return [CompletionItem(incomplete, type="file")]


def _formats() -> Iterable[str]:
    from converter.formats import FORMATS

    return FORMATS


def _runtimes() -> Iterable[str]:
    from converter.proof.plan import ALL
    from converter.runtimes import RUNTIMES

    return (*RUNTIMES, ALL)


def _zoo() -> Iterable[str]:
    from converter.sources import known_names

    return known_names()


SOURCES, FORMAT_LIST, RUNTIME_LIST = Source(_zoo), Names(_formats, multiple=True), Names(_runtimes, multiple=True)


class Integer(click.IntRange):
    """A whole number of at least `min` and, if given, at most `max`."""

    name = "N"

    def convert(self, value: ClickValue, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`value` as an integer, or a usage error that states the allowed values."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value}: not a whole number", param, ctx)
        if number < (self.min or 0) or (self.max is not None and number > self.max):
            self.fail(f"{value}: out of range, must be {self._describe_range()}", param, ctx)
        return number

    def _describe_range(self) -> str:
        return f"at least {self.min}" if self.max is None else f"{self.min} to {self.max}"


class Span(click.ParamType[tuple[float, float]]):
    """Two numbers as LOW:HIGH."""

    name = "LOW:HIGH"

    def convert(
        self, value: ClickValue, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """`value` as two numbers, or a usage error."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(":")
        try:
            low, high = map(float, parts)
        except ValueError:
            low, high = math.nan, math.nan
        if math.isnan(low) or math.isnan(high):
            self.fail(f"{value}: expected LOW:HIGH, as in 0:255", param, ctx)
        return low, high


class Sizes(click.ParamType[dict[str, int]]):
    """Sizes by axis as H=320,W=240."""

    name = "AXIS=SIZE,…"

    def convert(self, value: ClickValue, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        """`value` as sizes by axis, or a usage error."""
        if isinstance(value, dict):
            return value
        parts = [part.partition("=") for part in str(value).split(",")]
        if any(not axis.strip() or not size.strip().isdigit() for axis, _, size in parts):
            self.fail(f"{value}: expected the size of each dynamic axis, as in H=320,W=240", param, ctx)
        return {axis.strip().upper(): int(size) for axis, _, size in parts}


class PixelSize(click.ParamType[tuple[int, int]]):
    """Height and width as HxW."""

    name = "HxW"

    def convert(self, value: ClickValue, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """`value` as height and width, or a usage error."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).lower().partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
            self.fail(f"{value}: expected height and width, as in 224x224", param, ctx)
        return int(height), int(width)


def choice(*values: str) -> click.Choice[str]:
    """One of `values`, ignoring case."""
    return click.Choice(values, case_sensitive=False)


def _shapes(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Shape | ShapesByInput | None:
    from converter.sources.spelling import read_shapes

    return None if text is None else read_shapes(text)


def _kwargs(ctx: click.Context, parameter: click.Parameter, text: str | None) -> JsonObject:
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        raise UsageError(f"--kwargs: not JSON: {error}\nwrite an object: '{{\"classes\": 10}}'") from error
    if not isinstance(value, dict):
        raise UsageError("--kwargs: must be a JSON object: '{\"classes\": 10}'")
    return value


def output_options(function: Function) -> Function:
    """The options for judging and for the destinations of the report, see `converter.cli.delivery`."""
    for decorator in (
        option("--debug", is_flag=True, help="Show the traceback of errors."),
        option("--quiet", "-q", is_flag=True, help="No progress on standard error."),
        option("--json", "as_json", is_flag=True, help="Print the report as one JSON document."),
        option("--tolerance", type=float, help="Tolerance to use instead of the measured one."),
        option("--growth", type=float, metavar="FACTOR", help="Allowed growth of errors over baseline. [default: 2]"),
        option("--baseline", type=click.Path(path_type=Path), metavar="REPORT.JSON",
               help="Fail if an error grew, an operator count changed or a row is missing."),
        option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append a line of JSON for each stage."),
        option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as an HTML page."),
        option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as JUnit XML."),
        option("--device", type=choice("cpu", "cuda"), default="cpu", show_default=True,
               help="cuda also runs onnxruntime on a GPU."),
    ):  # fmt: skip
        function = decorator(function)
    return function


def limit_options(function: Function) -> Function:
    """The limits of the processes that run artifacts, see `converter.core.limits`."""
    for decorator in (
        option("--timeout", type=float, metavar="SECONDS",
               help="Time limit of each process that runs a file. [default: 900, more for large files]"),
        option("--memory-limit", metavar="SIZE",
               help="Memory of each process that runs a file, as in 4G. [default: by the file and the machine]"),
    ):  # fmt: skip
        function = decorator(function)
    return function


def precision_options(function: Function) -> Function:
    """The options of other precisions than float32, see `converter.core.precision`."""
    for decorator in (
        option("--float16-io", is_flag=True, help="fp16 ONNX files take and return float16."),
        option("--int8-target", type=choice("vnni", "any"),
               help="any: no product of two int8 values can saturate, on any x86. [default: vnni]"),
        option("--keep-float", type=Names(lambda: ("auto",), multiple=True), multiple=True, metavar="auto|LAYER,…",
               help="Layers that int8 leaves in float; auto measures each."),
        option("--calibration-method", type=choice("minmax", "percentile", "entropy"),
               help="How samples become ranges. [default: minmax]"),
        option("--calibration", type=click.Path(path_type=Path), metavar="FILE.npz|FOLDER|mnist|digits|noise",
               help="Samples of real inputs for int8: arrays by the name of the input, or images."),
        option("--precision", type=Names(lambda: PRECISIONS, multiple=True), multiple=True, metavar="NAME",
               help="fp16, int8, int8-weights or int8-dynamic, besides float32; repeatable."),
    ):  # fmt: skip
        function = decorator(function)
    return function


def source_options(function: Function) -> Function:
    """The options of a source, and how its Lambda groups are treated."""
    groups = option("--groups", type=choice("preserve", "as-written"), default="preserve", show_default=True,
                    help="How to treat Lambda slices that all read the same channels.")  # fmt: skip
    return groups(loading_options(function))


def loading_options(function: Function) -> Function:
    """The options of a source: the keywords of `converter.pipeline.options.SourceKeywords`, and the own limit."""
    function = within_own_limit(function)
    for decorator in (
        option("--kwargs", callback=_kwargs, metavar="JSON", help="Arguments for the builder."),
        option("--builder", metavar="MODULE:FUNCTION", help="Function that builds the model for a weights-only file."),
        option("--custom-objects", multiple=True, metavar="MODULE", help="Module with custom layers; repeatable."),
        option("--trust", is_flag=True, help="Allow the model file to run code that it contains."),
        option("--seed", type=Integer(min=0), default=0, show_default=True, help="Seed of samples and weights."),
        option("--logits", is_flag=True, help="Leave out the final softmax."),
        option("--input-shape", callback=_shapes, metavar="HxWxC",
               help="Height, width and channels: 224x224x3; any for any size; NAME=HxWxC,… for several inputs."),
        option("--classes", type=Integer(min=1), help="Number of classes of a zoo model."),
        option("--weights", type=click.Path(), metavar="FILE|imagenet",
               help="A .keras, .weights.h5 or .h5 file, or imagenet. [default: seeded]"),
    ):  # fmt: skip
        function = decorator(function)
    return function
