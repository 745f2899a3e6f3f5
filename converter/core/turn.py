"""Work that goes on side by side in several processes, and measurements of time during which none of it does.

Locks on files (flock(2), which end with their process): what works holds a shared one, and one of `SLOTS` if it is
heavy; what is timed holds an exclusive one. Where the system has no such locks, nothing goes on side by side.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SLOTS = 2
"""How many processes may do heavy work at a time: a runtime uses every core, but not all the time"""

_INTERVAL = 0.005  # seconds between two attempts


class Turn:
    """The turn of one process; all of them name the same `directory`, None if nothing goes on side by side."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory if fcntl else None

    @contextmanager
    def working(self, *, heavy: bool = False, patience: float = math.inf) -> Iterator[None]:
        """Within the context no process measures; `heavy` work waits `patience` seconds for few others to do any."""
        if self.directory is None:
            yield
            return
        slots = [self.directory / f"slot-{number}" for number in range(SLOTS)] if heavy else []
        with _first_free(slots, patience), (self.directory / "all").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self, patience: float) -> Iterator[None]:
        """Within the context no other process works; after `patience` seconds they are not waited for any longer."""
        if self.directory is None:
            yield
            return
        last = time.monotonic() + patience
        with (self.directory / "all").open("ab") as stream:
            while not _taken(stream.fileno()) and time.monotonic() < last:
                time.sleep(_INTERVAL)
            yield


@contextmanager
def turns() -> Iterator[Turn]:
    """Within the context, a turn in a directory of its own; without one where its file system has no locks."""
    with tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True) as directory:
        turn = Turn(Path(directory))
        try:
            with turn.working():
                pass
        except OSError:  # Lustre without its option "flock", for example
            turn = Turn(None)
        yield turn


@contextmanager
def _first_free(paths: list[Path], patience: float) -> Iterator[None]:
    """Within the context, one of the files is locked; none if there are none, or if all were for `patience` seconds."""
    last = time.monotonic() + patience
    while paths and time.monotonic() < last:
        for path in paths:
            with path.open("ab") as stream:
                if _taken(stream.fileno()):
                    yield
                    return
        time.sleep(_INTERVAL)
    yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
