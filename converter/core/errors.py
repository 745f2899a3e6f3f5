"""The errors of cnnexport: one class for each exit code, with a message of one to three lines.

A message says where, what is wrong, and what to do next. `converter.cli.main` prints it and exits with `exit_code`; the
functions of the API raise the same classes.
"""

from __future__ import annotations

from converter.core.text import printable


class CnnExportError(Exception):
    """Base of all expected errors; `exit_code` is the exit status of the process.

    A message may quote text from a file. Therefore it is made safe for terminals and logs here.
    """

    exit_code: int = 70

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ParityError(CnnExportError):
    """An artifact does not compute the same as the Keras model."""

    exit_code = 1


class UsageError(CnnExportError):
    """An option or argument is wrong: an unknown model or format, an opset out of range, a bad shape."""

    exit_code = 2


class InputError(CnnExportError):
    """A file is missing, unreadable, damaged, or not of the expected kind."""

    exit_code = 3


class UnsafeError(CnnExportError):
    """Loading would run code from the file; refused unless the user trusts it explicitly."""

    exit_code = 4


class UnavailableError(CnnExportError):
    """A requested runtime or device is not available on this machine."""

    exit_code = 5


class ConversionError(CnnExportError):
    """A layer or operator has no equivalent in a format; the message names the Keras layer."""

    exit_code = 6


class OutputError(CnnExportError):
    """The output cannot be written, or another process has locked it."""

    exit_code = 7


class ChildError(CnnExportError):
    """A child process crashed, ran out of memory, or ran out of time."""

    exit_code = 8


class InconclusiveError(CnnExportError):
    """The check could not have failed, or nothing was compared."""

    exit_code = 9
