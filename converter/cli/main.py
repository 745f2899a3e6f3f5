"""The command group and the console script: runs the selected command and turns errors into exit codes.

`cnnexport MODEL` is short for `cnnexport export MODEL`. Progress is written to standard error, the result to standard
output. No large library is imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from converter.cli import (
    bench,
    evaluate,
    export,
    fleet,
    inspect,
    list_models,
    package,
    predict,
    rewrite,
    runtimes,
    sign,
    train,
    verify,
)
from converter.cli.options import SOURCES, variable_of
from converter.cli.temporary import own_temporary_files
from converter.core import machine
from converter.core.disk import output_error
from converter.core.ending import ended_by_signals, status_of
from converter.core.errors import CnnExportError, OutputError, UnavailableError
from converter.core.text import printable
from converter.core.version import __version__

COMMANDS: dict[str, click.Command] = {
    "export": export.command,
    "verify": verify.command,
    "rewrite": rewrite.command,
    "fleet": fleet.command,
    "package": package.command,
    "sign": sign.command,
    "train": train.command,
    "predict": predict.command,
    "evaluate": evaluate.command,
    "inspect": inspect.command,
    "list": list_models.command,
    "runtimes": runtimes.command,
    "bench": bench.command,
}
PROGRAM = "cnnexport"
_QUOTED = re.compile(r"^'([^']*)'")


class _ModelOrCommand(click.Group):
    """A group that treats its first argument as a model if it is not a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if args and args[0] not in own | {"--help", "-h"} and first not in self.commands:
            args = ["export", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes commands, and models as for `export`."""
        return super().shell_complete(ctx, incomplete) + SOURCES.matching(incomplete) or SOURCES.any_file(incomplete)


@click.group(
    cls=_ModelOrCommand,
    commands=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def cli(ctx: click.Context) -> int | None:
    """Export Keras CNNs to ONNX, TFLite and SavedModel, each artifact proven against Keras's predictions.

    \b
    cnnexport resnet50 --format onnx      a model of the zoo (see: cnnexport list)
    cnnexport ./model.keras               a model file
    cnnexport keras:EfficientNetB0        a builder of keras.applications
    cnnexport package.module:function     a function that returns a keras.Model
    cnnexport path/to/file.py:function    the same, from a file
    cnnexport verify artifacts/resnet50   repeat the proof from the directory
    cnnexport rewrite MODEL -o new.keras  save with Lambda groups as grouped convolutions
    cnnexport fleet models.toml           many models, with resume, on one machine or a Dask cluster
    cnnexport package DIR --for triton -o REPOSITORY   proven artifacts laid out for a server
    cnnexport sign DIR --key KEY.pem      sign artifacts, with a bill of materials and the verdict
    cnnexport train MODEL --data DIR      train on folders of images, one a class
    cnnexport predict artifacts/NAME *.jpg   the classes of images, in any runtime
    cnnexport evaluate artifacts/NAME --data DIR   accuracy beside Keras's, image by image
    cnnexport inspect artifacts/resnet50  operators, parameters, cost and metadata
    cnnexport runtimes                    the runtimes for verify --runtime, and their availability
    cnnexport bench artifacts/resnet50    latency, throughput and memory of every file and runtime

    \b
    Each option can be set by an environment variable: CNNEXPORT_OPSET=17 for --opset 17.

    \b
    Exit codes: 0 proven, 1 parity failed, 2 wrong usage, 3 unreadable input, 4 refused as
    unsafe, 5 runtime or device unavailable, 6 conversion failed, 7 output not written,
    8 child process failed, 9 inconclusive, 70 a bug in cnnexport.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return 2
    return None


def run() -> None:
    """The console script: `main`, and the end of the process without that of TensorFlow, which takes a second."""
    machine.own_process()
    try:
        with ended_by_signals(), own_temporary_files():
            main()
    except SystemExit as end:
        if "tensorflow" not in sys.modules:
            raise
        status = end.code if isinstance(end.code, int) else 0
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # the reader closed the pipe
            status = 141
        os._exit(status)


def main() -> None:
    """Run the command and exit with its exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        status = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except CnnExportError as error:
        status = _print_error(error, str(error), error.exit_code, debug)
    except click.exceptions.Abort as error:
        status = _interrupted(error)
    except click.ClickException as error:
        status = _print_error(error, _usage_message(error), 2, debug)
    except KeyboardInterrupt as error:
        status = _interrupted(error)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  the reader closed the pipe; the final flush must not fail
        status = 141
    except Exception as error:  # noqa: BLE001  any other error is reported as a bug
        refused = output_error(error)
        if refused is not None:
            status = _print_error(error, str(refused), refused.exit_code, debug)
        elif _needs_full_install(error):
            text = f"cnnexport-verify can only verify ({error})\nfor the other commands: pip install cnnexport"
            status = _print_error(error, text, UnavailableError.exit_code, debug)
        else:
            text = f"a bug in cnnexport: {type(error).__name__}: {error}\nrun again with --debug"
            status = _print_error(error, text, 70, debug)
    sys.exit(_flushed(status if isinstance(status, int) else 0))


def _interrupted(error: BaseException) -> int:
    with contextlib.suppress(OSError):  # the terminal may be gone
        click.echo("\ncnnexport: interrupted; the previous export is unchanged", err=True)
    return status_of(error)


def _flushed(status: int) -> int:
    """`status`, or 7 if what was printed cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return 141
    except OSError as error:
        click.echo(f"cnnexport: standard output cannot be written: {error.strerror or error}", err=True)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  the final flush must not fail
        return OutputError.exit_code
    return status


def _usage_message(error: click.ClickException) -> str:
    """The error, and the help page that describes the correct usage."""
    context = getattr(error, "ctx", None)
    parameter = getattr(error, "param", None)
    message = error.format_message()
    if parameter and isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        text = _QUOTED.sub(r"\1", error.message)
        message = f"{max(parameter.opts, key=len)} {text}"
        if context and context.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
            message = f"${variable_of(parameter.opts)}: {message}"
    return f"{message}\nsee: {context.command_path if context else PROGRAM} --help"


def _needs_full_install(error: Exception) -> bool:
    """Whether `error` reports a missing package of cnnexport that is not part of `cnnexport-verify`."""
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ("converter", "zoo")


def _print_error(error: BaseException, message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    for number, line in enumerate(printable(message).splitlines()[:3]):
        click.echo(f"{'cnnexport: ' if number == 0 else '  '}{line}", err=True)
    return status


if __name__ == "__main__":
    run()
