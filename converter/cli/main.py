"""The command line: click, the pipeline, and errors turned into exit codes; nothing heavy is imported before its use.

`cnnexport MODEL` means `cnnexport export MODEL`. Progress goes to standard error, the result to standard output.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from converter.cli.options import output_options, source, source_options
from converter.core.errors import CnnExportError
from converter.core.version import __version__


class _ModelOrCommand(click.Group):
    """A group whose first word is taken as a model where it is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if args and args[0] not in own | {"--help", "-h"} and first not in self.commands:
            args = ["export", *args]
        return super().parse_args(ctx, args)


class _Progress:
    """One line per stage on standard error: rewritten in place on a terminal, plain when done elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()

    def __call__(self, stage: str, seconds: float | None) -> None:
        if self.quiet or (seconds is None and not self.live):
            return
        if seconds is None:
            sys.stderr.write(f"\r\x1b[K  {stage} …")
        else:
            sys.stderr.write(f"{chr(13) + chr(27) + '[K' if self.live else ''}{seconds:7.1f} s  {stage}\n")
        sys.stderr.flush()


@click.group(cls=_ModelOrCommand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cnnexport")
def cli() -> None:
    """Export Keras CNNs to ONNX, TFLite and SavedModel, each artifact proven against Keras's predictions.

    \b
    cnnexport resnet50 --format onnx      a model of the zoo (see: cnnexport list)
    cnnexport ./model.keras               a model file
    cnnexport keras:EfficientNetB0        a builder of keras.applications
    cnnexport package.module:function     a function that returns a keras.Model
    cnnexport verify artifacts/resnet50   the proof again, from the directory alone
    cnnexport rewrite MODEL -o new.keras  Lambda groups as grouped convolutions, saved
    cnnexport runtimes                    what --runtime of verify takes, and what is missing

    \b
    Exit codes: 0 proven, 1 parity failed, 2 usage, 3 unreadable input, 4 refused as unsafe,
    5 runtime or device missing, 6 conversion failed, 7 output not written, 8 child process
    died, 9 inconclusive, 70 a bug.
    """


@cli.command()
@click.argument("model")
@click.option(
    "--format", "-f", "formats", multiple=True, help="onnx, tflite or saved-model; repeatable. [default: all]"
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Artifact directory. [default: artifacts/MODEL]")
@click.option("--batch", type=int, help="Fix the batch size. [default: any]")
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX opset, 13 to 18.")
@click.option(
    "--layout", type=click.Choice(["nhwc", "nchw"]), default="nhwc", show_default=True, help="Of ONNX inputs."
)
@click.option("--samples", type=int, default=8, show_default=True, help="Seeded inputs to compare on.")
@source_options
@output_options
def export(model: str, formats: tuple[str, ...], output: Path | None, quiet: bool, **given: Any) -> int:
    """Export MODEL and prove every artifact (the default command)."""
    from converter.cli import delivery
    from converter.pipeline import export as pipeline
    from converter.core.data import WriteOptions

    wishes = delivery.wishes(given)
    options = pipeline.ExportOptions(
        formats=formats or pipeline.ExportOptions.formats,
        output=output,
        write=WriteOptions(batch=given["batch"], opset=given["opset"], layout=given["layout"]),
        source=source(given),
        device=given["device"],
        tolerance=given["tolerance"],
        samples=given["samples"],
        groups=given["groups"],
        baseline=wishes.baseline,
    )
    report = pipeline.export(model, options, progress=_Progress(quiet), commands=list(cli.commands))
    return delivery.deliver(report, wishes)


@cli.command()
@click.argument("directory", metavar="DIRECTORY|FILE", type=click.Path(path_type=Path))
@click.option("--runtime", "runtimes", multiple=True,
              help="One of cnnexport runtimes, or all; repeatable. [default: one for each format]")  # fmt: skip
@output_options
def verify(directory: Path, runtimes: tuple[str, ...], quiet: bool, **given: Any) -> int:
    """Prove the artifacts of DIRECTORY again, or FILE, one of them, from what lies beside it."""
    from converter.cli import delivery
    from converter.pipeline import export as pipeline

    wishes = delivery.wishes(given)
    report = pipeline.verify(
        directory,
        runtimes=runtimes,
        device=given["device"],
        tolerance=given["tolerance"],
        baseline=wishes.baseline,
        progress=_Progress(quiet),
    )
    return delivery.deliver(report, wishes)


@cli.command()
@click.argument("model")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The .keras file to write.")
@click.option("--simplify", is_flag=True, help="Also fold batch normalizations and drop what inference skips.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@source_options
def rewrite(model: str, output: Path, simplify: bool, as_json: bool, debug: bool, **given: Any) -> int:
    """Rewrite MODEL as the export would and save it as a Keras model: trainable, without a Lambda."""
    from converter.report.table import print_resaved
    from converter.pipeline.resave import resave

    result = resave(model, output, source(given), groups=given["groups"], simplify=simplify)
    print_resaved(result, sys.stdout, as_json)
    return 0


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def list_models(as_json: bool) -> int:
    """List the zoo: name, input, classes, parameters, outputs."""
    from converter.sources import zoo_table

    rows = zoo_table()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return 0
    cells = [("name", "input", "classes", "parameters", "outputs")]
    for row in rows:
        shape = "x".join(str(size) for size in row["input_shape"])
        numbers = str(row["classes"]), f"{row['parameters']:,}"
        cells.append((row["name"], shape, *numbers, ", ".join(row["outputs"])))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    for line in cells:
        text = [value.rjust(width) if column in (2, 3) else value.ljust(width)
                for column, (value, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        click.echo("  ".join(text).rstrip())
    return 0


@cli.command("runtimes")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def list_runtimes(as_json: bool) -> int:
    """List the runtimes: name, version, what they read, and why one is not available."""
    from converter.runtimes import overview

    rows = overview()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return 0
    lines = [("name", "version", "reads", "available")]
    lines += [(row["name"], row["version"] or "-", ", ".join(row["reads"]), row["reason"] or "yes") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        text = [value.ljust(width) for value, width in zip(line[:3], widths, strict=True)]
        click.echo("  ".join([*text, line[3]]))
    return 0


def main() -> None:
    """The console script: runs the command and leaves with its exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        status = cli.main(args=arguments, prog_name="cnnexport", standalone_mode=False)
    except CnnExportError as error:
        status = _complain(error, str(error), error.exit_code, debug)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        status = _complain(error, f"{error.format_message()}\nsee: cnnexport --help", 2, debug)
    except KeyboardInterrupt:
        click.echo("\ncnnexport: interrupted; the previous export is as it was", err=True)
        status = 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  the reader has gone; let the interpreter flush in peace
        status = 141
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug is reported as one
        status = _complain(
            error, f"a bug in cnnexport: {type(error).__name__}: {error}\nrun again with --debug", 70, debug
        )
    sys.exit(status if isinstance(status, int) else 0)


def _complain(error: BaseException, message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    from converter.core.text import told

    for number, line in enumerate(told(message).splitlines()[:3]):
        click.echo(f"{'cnnexport: ' if number == 0 else '  '}{line}", err=True)
    return status


if __name__ == "__main__":
    main()
