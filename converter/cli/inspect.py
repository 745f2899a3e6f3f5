"""`cnnexport inspect PATH [OTHER]`, and how its result is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from converter.cli.options import option
from converter.cli.streams import columns, result_only

if TYPE_CHECKING:
    from converter.inspection.describe import Described

LENGTH = 100


@click.command("inspect")
@click.argument("path", metavar="FILE|DIRECTORY", type=click.Path(path_type=Path))
@click.argument("other", metavar="[OTHER]", required=False, type=click.Path(path_type=Path))
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
def command(path: Path, other: Path | None, as_json: bool, debug: bool) -> int:
    """Show what an artifact or all artifacts of an export are made of; of two, also the difference."""
    with result_only() as result:
        from converter.core.jsonable import dumps
        from converter.core.text import inert
        from converter.pipeline.inspect import inspect

        found = inspect(path, other)
        if as_json:
            result.write(dumps(found))
            return 0
        lines = [line for each in found.files for line in (*_lines(each), "")]
        if other is not None:
            lines += _difference(found.difference)
        result.write("\n".join(map(inert, lines)).rstrip() + "\n")
        return 0


def _lines(found: Described) -> Iterator[str]:
    from converter.core.text import clean
    from converter.report.table import size_text

    def number(value: int | None) -> str:
        return "unknown" if value is None else f"{value:,}"

    yield f"{clean(found.path, 300)}: {found.format}, {found.precision}, {size_text(found.size)}"
    for title, values in (("input", found.inputs), ("output", found.outputs)):
        for name, shape, dtype in values:
            sizes = "x".join("any" if size is None else str(size) for size in shape)
            yield f"  {title:<16} {clean(name, LENGTH)} {sizes} {dtype}"
    weights = ", ".join(f"{kind} {size_text(size)}" for kind, size in found.weight_bytes.items())
    yield f"  {'parameters':<16} {found.parameters:,} ({weights})"
    yield f"  {'multiply-adds':<16} {number(found.multiply_adds)} for one image"
    memory = "unknown" if found.activation_bytes is None else size_text(found.activation_bytes)
    yield f"  {'activations':<16} {memory} at once, for one image"
    counts = ", ".join(f"{count} {clean(name, 40)}" for name, count in found.operators.items())
    yield f"  {'operators':<16} {sum(found.operators.values())}: {counts}"
    for name, text in {**found.facts, **found.metadata}.items():
        yield f"  {clean(name, 40)}: {clean(text, LENGTH)}"
    if found.largest:
        rows = [("largest weights", "shape", "type", "size")]
        rows += [
            (clean(each.name, 60), "x".join(map(str, each.shape)), each.dtype, size_text(each.bytes) or "0")
            for each in found.largest
        ]
        yield from (f"  {line}" for line in columns(rows, right=(3,)).splitlines())
    if found.costly:
        costs = [("most multiply-adds", "operator", "")]
        costs += [(clean(name, 60), kind, f"{cost:,}") for name, kind, cost in found.costly]
        yield from (f"  {line}" for line in columns(costs, right=(2,)).splitlines())


def _difference(found: Mapping[str, tuple[object, object]]) -> list[str]:
    from converter.core.text import clean

    if not found:
        return ["no difference"]
    rows = [("difference", "first", "second")]
    rows += [
        (clean(name, 60), clean(_text(one), LENGTH), clean(_text(other), LENGTH))
        for name, (one, other) in found.items()
    ]
    return columns(rows).splitlines()


def _text(value: object) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
