"""The two streams: progress on standard error, the result alone on standard output; and rows in columns."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import IO


@contextlib.contextmanager
def result_only() -> Iterator[IO[str]]:
    """While it lasts, what anybody prints to standard output goes to standard error; the stream is the result's.

    A user's module may print when it is imported, a native library whenever it likes; and with --json standard output
    is one document.
    """
    result = sys.stdout
    result.flush()
    try:
        descriptor = result.fileno()
    except (OSError, ValueError):  # a stream in memory
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
    """One line per stage on standard error: rewritten in place on a terminal, plain when done elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()

    def __call__(self, stage: str, seconds: float | None) -> None:
        """Write that `stage` begins (`seconds` None), or that it took `seconds`."""
        if self.quiet or (seconds is None and not self.live):
            return
        if seconds is None:
            sys.stderr.write(f"\r\x1b[K  {stage} …")
        else:
            sys.stderr.write(f"{chr(13) + chr(27) + '[K' if self.live else ''}{seconds:7.1f} s  {stage}\n")
        sys.stderr.flush()


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """`rows` as lines whose cells are aligned; those of the columns `right` at their right end."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)
