"""What native libraries write to standard error while they load."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def muted(wanted: bool = True) -> Iterator[None]:
    """Within the context, file descriptor 2 leads nowhere: libraries write there before any level of logging applies.

    Errors are raised as exceptions, so nothing that matters is lost.
    """
    if not wanted:
        yield
        return
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
