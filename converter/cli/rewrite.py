"""`cnnexport rewrite MODEL -o new.keras`, and how its result is printed."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from converter.cli.options import SOURCES, Integer, option, source_options
from converter.cli.streams import result_only

if TYPE_CHECKING:
    from converter.pipeline.rewrite import RewriteResult


@click.command("rewrite")
@click.argument("model", type=SOURCES)
@option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The .keras file to write.")
@option("--force", is_flag=True, help="Replace an existing file, unless it is MODEL itself.")
@option("--simplify", is_flag=True, help="Also fold batch normalizations and remove layers unused in inference.")
@option("--samples", type=Integer(min=2), default=4, show_default=True, help="Number of inputs for the comparison.")
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@option("--debug", is_flag=True, help="Show the traceback of errors.")
@source_options
def command(model: str, output: Path, as_json: bool, debug: bool, **given: Any) -> int:
    """Save MODEL as rewritten for export, without Lambda layers. The result is a trainable Keras model."""
    with result_only() as result:
        from converter.pipeline.rewrite import rewrite

        print_result(rewrite(model, output, **given), result, as_json)
        return 0


def print_result(result: RewriteResult, file: IO[str], as_json: bool = False) -> None:
    """Write the result of `cnnexport rewrite` to `file`: layers, parameters and difference, or one JSON document."""
    from converter.core.jsonable import dumps
    from converter.core.text import inert
    from converter.report.table import NAME_LENGTH, SENTENCE_LENGTH, clean, number_text

    if as_json:
        file.write(dumps(result))
        return
    lines = [*(f"warning: {clean(text, 20 * NAME_LENGTH)}" for text in result.warnings)]
    lines += [f"{clean(result.model)}:"]
    lines += [f"  layers      {result.layers[0]:,} -> {result.layers[1]:,}"]
    lines += [f"  parameters  {result.parameters[0]:,} -> {result.parameters[1]:,}"]
    for name, value in result.difference.items():
        lines.append(f"  difference  {clean(name)} {value:.1e} (noise {number_text(result.noise[name])})")
    counts: dict[tuple[str, bool, str], int] = {}
    for each in result.results:
        key = (each.rule, each.applied, "" if each.applied else each.reason)
        counts[key] = counts.get(key, 0) + 1
    for (rule, applied, reason), count in counts.items():
        text = (
            f"{clean(rule)}, {count} applied" if applied else f"{clean(rule)}, {count} declined: {clean(reason, 200)}"
        )
        lines.append(f"  rule        {text}")
    if result.changed_on_purpose:
        lines.append("  the function was changed on purpose (--groups as-written)")
    lines.append(f"saved: {clean(result.path, SENTENCE_LENGTH)}")
    file.write("\n".join(map(inert, lines)) + "\n")
