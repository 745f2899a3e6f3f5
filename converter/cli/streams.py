"""The two output streams: progress on standard error, only the result on standard output; and aligned columns."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import IO, ClassVar


@contextlib.contextmanager
def result_only() -> Iterator[IO[str]]:
    """A stream for the result. In this context, all other output to standard output is redirected to standard error.

    A user's module may print when it is imported, and a native library at any time; with --json, standard output must
    be exactly one JSON document.
    """
    result = sys.stdout
    result.flush()
    try:
        descriptor = result.fileno()
    except (OSError, ValueError):  # a stream without a file descriptor
        descriptor = None
    if descriptor != 1:
        with contextlib.redirect_stdout(sys.stderr):
            yield result
        return
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        stream = open(kept, "w", encoding=result.encoding, errors=result.errors, closefd=False)  # noqa: SIM115
        with stream, contextlib.redirect_stdout(sys.stderr):
            yield stream
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class Progress:
    """One line per stage on standard error: updated in place on a terminal, otherwise written when a stage ends.

    Several stages may go on at a time, in the whole process; the one that has started last is shown.
    """

    _going_on: ClassVar[list[str]] = []

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        Progress._going_on.clear()  # of a command before this one, which an error ended

    @classmethod
    def stage(cls) -> str:
        """The stage that has started last of those that go on; "" between two."""
        return cls._going_on[-1] if cls._going_on else ""

    def __call__(self, stage: str, seconds: float | None) -> None:
        """Report that `stage` starts (`seconds` None), or that it took `seconds`."""
        going_on = Progress._going_on
        if seconds is None:
            going_on.append(stage)
        elif stage in going_on:
            going_on.remove(stage)
        if self.quiet or (seconds is None and not self.live):
            return
        start, now = ("\r\x1b[K", f"  {going_on[-1]} …" if going_on else "") if self.live else ("", "")
        sys.stderr.write(f"{start}{now}" if seconds is None else f"{start}{seconds:7.1f} s  {stage}\n{now}")
        sys.stderr.flush()


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """`rows` as lines with aligned cells; the columns `right` are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)
