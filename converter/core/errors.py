"""The errors of cnnexport: one class per exit code, each a message of one to three lines.

A message says where it happened, what is wrong, and what to do next. `converter.cli.main` prints it and leaves with
`exit_code`; from Python the same classes are raised. Nothing else lives here.
"""

from __future__ import annotations

from converter.core.text import printable


class CnnExportError(Exception):
    """Base of every error that a user can cause or meet; `exit_code` is the process's exit status.

    A message may quote what a file says: it is made fit for a terminal and for a log here, where all of them pass.
    """

    exit_code: int = 70

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ParityError(CnnExportError):
    """An artifact does not compute what the Keras model computes."""

    exit_code = 1


class UsageError(CnnExportError):
    """An option or argument is wrong: unknown model, format out of the list, opset out of range, bad shape."""

    exit_code = 2


class InputError(CnnExportError):
    """A file is missing, unreadable, damaged, or is not what it should be."""

    exit_code = 3


class UnsafeError(CnnExportError):
    """Loading would run code from the file; refused without the user's explicit trust."""

    exit_code = 4


class UnavailableError(CnnExportError):
    """A runtime or a device that was asked for is not on this machine."""

    exit_code = 5


class ConversionError(CnnExportError):
    """A layer or operator has no counterpart in a format; the message names the Keras layer."""

    exit_code = 6


class OutputError(CnnExportError):
    """The output cannot be written, or another process holds it."""

    exit_code = 7


class ChildError(CnnExportError):
    """A child process crashed, ran out of memory, or ran out of time."""

    exit_code = 8


class InconclusiveError(CnnExportError):
    """The check could not have failed, or compared nothing."""

    exit_code = 9
