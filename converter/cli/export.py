"""`cnnexport export MODEL`, the default command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.event_log import EventLog
from converter.cli.options import (
    FORMAT_LIST,
    SOURCES,
    Integer,
    Sizes,
    Span,
    choice,
    limit_options,
    option,
    output_options,
    precision_options,
    source_options,
)
from converter.cli.streams import Progress, result_only
from converter.core.effort import Effort

OPTIONAL = ("calibration_method", "int8_target", "keep_float", "precision")
"""The options that are keywords only if they are given"""


@click.command("export")
@click.argument("model", type=SOURCES)
@option("--format", "-f", "formats", type=FORMAT_LIST, multiple=True, metavar="FORMAT",
        help="onnx, tflite or saved-model; repeatable or comma-separated. [default: all]")  # fmt: skip
@option("--output", "-o", type=click.Path(path_type=Path), help="Artifact directory. [default: artifacts/MODEL]")
@option("--force", is_flag=True, help="Replace an export of another source in artifacts/MODEL.")
@option("--batch", type=Integer(min=1), help="Fixed batch size. [default: dynamic]")
@option("--opset", type=Integer(13, 18), default=17, show_default=True, help="ONNX opset.")
@option("--layout", type=choice("nhwc", "nchw"), default="nhwc", show_default=True, help="Layout of the ONNX inputs.")
@option(
    "--samples",
    type=Integer(min=2),
    metavar="N",
    help="Number of seeded inputs to compare. [default: 8; 3 to 7 if an inference takes long]",
)
@option(
    "--budget",
    type=float,
    default=Effort.seconds,
    show_default=True,
    metavar="SECONDS",
    help="Seconds of inference that may go into the samples.",
)
@option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your own inputs, an .npz file with an array for each input, instead of seeded ones.",
)
@option(
    "--preprocessing",
    metavar="MODE|FILE.json",
    help="How images become inputs: caffe, tf, torch, plain, unit, a file. [default: the model's own]",
)
@option(
    "--embed-preprocessing",
    is_flag=True,
    help="Write models that take 8-bit RGB images of any size and resize them as Pillow does; ONNX and SavedModel.",
)
@option("--labels", metavar="FILE|imagenet", help="Names of the classes, one a line. [default: the model's own]")
@option("--range", "range", type=Span(), help="Lowest and highest valid input value, as in 0:255.")
@option("--dynamic-size", type=Sizes(), help="Sizes to prove of dynamic axes, as in H=320,W=240. [default: 224]")
@precision_options
@limit_options
@source_options
@output_options
def command(model: str, formats: tuple[str, ...], quiet: bool, **given: Any) -> int:
    """Export MODEL and prove every artifact (the default command)."""
    with result_only() as result:
        from converter.cli import delivery, main
        from converter.pipeline.export import export

        where = delivery.destinations(given)
        chosen = {name: value for name, value in given.items() if name not in delivery.REPORT_OPTIONS}
        chosen = {name: value for name, value in chosen.items() if name not in OPTIONAL or value not in (None, ())}
        if formats:
            chosen["formats"] = formats
        with EventLog(given["log"]) as log:
            progress = log.progress(model, Progress(quiet))
            report = export(model, progress=progress, commands=list(main.COMMANDS), **chosen)
            log.verdict(model, report.verdict, report.exit_code)
        return delivery.deliver(report, where, result)
