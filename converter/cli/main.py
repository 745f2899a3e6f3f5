"""The group of commands and the console script: words to a command, errors to exit codes; nothing heavy is imported.

`cnnexport MODEL` means `cnnexport export MODEL`. Progress goes to standard error, the result to standard output.
"""

from __future__ import annotations

import os
import re
import sys
import traceback

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from converter.cli import export, list_models, rewrite, runtimes, verify
from converter.cli.options import SOURCES, variable_of
from converter.core.errors import CnnExportError, UnavailableError
from converter.core.text import printable
from converter.core.version import __version__

COMMANDS: dict[str, click.Command] = {
    "export": export.command,
    "verify": verify.command,
    "rewrite": rewrite.command,
    "list": list_models.command,
    "runtimes": runtimes.command,
}
PROGRAM = "cnnexport"
_UNQUOTED = re.compile(r"^'([^']*)'")


class _ModelOrCommand(click.Group):
    """A group whose first word is taken as a model where it is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if args and args[0] not in own | {"--help", "-h"} and first not in self.commands:
            args = ["export", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and what `export` would complete: a model."""
        return [*super().shell_complete(ctx, incomplete), *SOURCES.shell_complete(ctx, self.params[0], incomplete)]


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
    cnnexport path/to/file.py:function    the same, by the path of its file
    cnnexport verify artifacts/resnet50   the proof again, from the directory alone
    cnnexport rewrite MODEL -o new.keras  Lambda groups as grouped convolutions, saved
    cnnexport runtimes                    what --runtime of verify takes, and what is missing

    \b
    Each option is also an environment variable: CNNEXPORT_OPSET=17 for --opset 17.

    \b
    Exit codes: 0 proven, 1 parity failed, 2 usage, 3 unreadable input, 4 refused as unsafe,
    5 runtime or device missing, 6 conversion failed, 7 output not written, 8 child process
    died, 9 inconclusive, 70 a bug.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return 2
    return None


def main() -> None:
    """The console script: runs the command and leaves with its exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        status = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except CnnExportError as error:
        status = _complain(error, str(error), error.exit_code, debug)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        status = _complain(error, _usage(error), 2, debug)
    except KeyboardInterrupt:
        click.echo("\ncnnexport: interrupted; the previous export is as it was", err=True)
        status = 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  the reader has gone; let the interpreter flush in peace
        status = 141
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug is reported as one
        if _only_verifies(error):
            text = f"this is cnnexport-verify, which only verifies\npip install cnnexport to do more ({error})"
            status = _complain(error, text, UnavailableError.exit_code, debug)
        else:
            text = f"a bug in cnnexport: {type(error).__name__}: {error}\nrun again with --debug"
            status = _complain(error, text, 70, debug)
    sys.exit(status if isinstance(status, int) else 0)


def _usage(error: click.ClickException) -> str:
    """What is wrong, and whose help says what is right."""
    context = getattr(error, "ctx", None)
    parameter = getattr(error, "param", None)
    message = error.format_message()
    if parameter and isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        said = _UNQUOTED.sub(r"\1", error.message)
        message = f"{max(parameter.opts, key=len)} {said}"
        if context and context.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
            message = f"${variable_of(parameter.opts)}: {message}"
    return f"{message}\nsee: {context.command_path if context else PROGRAM} --help"


def _only_verifies(error: Exception) -> bool:
    """Whether `error` is that a package of cnnexport is missing which `cnnexport-verify` does not bring."""
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ("converter", "zoo")


def _complain(error: BaseException, message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    for number, line in enumerate(printable(message).splitlines()[:3]):
        click.echo(f"{'cnnexport: ' if number == 0 else '  '}{line}", err=True)
    return status


if __name__ == "__main__":
    main()
