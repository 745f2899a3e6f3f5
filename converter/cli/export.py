"""`cnnexport export MODEL`, the default command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.options import FORMAT_LIST, SOURCES, Whole, choice, option, output_options, source_options
from converter.cli.streams import Progress, result_only


@click.command("export")
@click.argument("model", type=SOURCES)
@option("--format", "-f", "formats", type=FORMAT_LIST, multiple=True, metavar="FORMAT",
        help="onnx, tflite or saved-model; repeatable, or with commas between. [default: all]")  # fmt: skip
@option("--output", "-o", type=click.Path(path_type=Path), help="Artifact directory. [default: artifacts/MODEL]")
@option("--force", is_flag=True, help="Replace the export of another source in artifacts/MODEL.")
@option("--batch", type=Whole(min=1), help="Fix the batch size. [default: any]")
@option("--opset", type=Whole(13, 18), default=17, show_default=True, help="ONNX opset.")
@option("--layout", type=choice("nhwc", "nchw"), default="nhwc", show_default=True, help="Of ONNX inputs.")
@option("--samples", type=Whole(min=2), default=8, show_default=True, help="Seeded inputs to compare on.")
@source_options
@output_options
def command(model: str, formats: tuple[str, ...], quiet: bool, **given: Any) -> int:
    """Export MODEL and prove every artifact (the default command)."""
    with result_only() as result:
        from converter.cli import delivery, main
        from converter.pipeline.export import export

        wishes = delivery.wishes(given)
        chosen = {name: value for name, value in given.items() if name not in delivery.OWN}
        if formats:
            chosen["formats"] = formats
        report = export(model, progress=Progress(quiet), commands=list(main.COMMANDS), **chosen)
        return delivery.deliver(report, wishes, result)
