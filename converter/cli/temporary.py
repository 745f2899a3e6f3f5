"""A directory for the temporary files of one run of the command, and the removal of those that killed runs left.

TensorFlow leaves files among the temporary ones when a process ends without its exit handlers. Each run holds a lock on
its directory; one without a lock belongs to a process that has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from converter.core.ending import removed_at_end

PREFIX = "cnnexport-run-"


@contextlib.contextmanager
def own_temporary_files() -> Iterator[None]:
    """Within the context, temporary files of this process and its children are in a directory that goes with it.

    Where no directory can be made, nothing changes: what needs temporary files will say so.
    """
    names = ("TMPDIR", "TEMP", "TMP")
    before, default = {name: os.environ.get(name) for name in names}, tempfile.tempdir
    with contextlib.ExitStack() as stack:
        try:
            place = _made(stack)
        except (OSError, ImportError):  # no fcntl on Windows
            place = None
        if place is None:
            yield
            return
        os.environ.update(dict.fromkeys(names, str(place)))
        tempfile.tempdir = str(place)
        try:
            with removed_at_end(place):
                yield
        finally:
            tempfile.tempdir = default
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            shutil.rmtree(place, ignore_errors=True)


def _made(stack: contextlib.ExitStack) -> Path | None:
    """A new directory with a lock, which `stack` releases; those without a lock are removed."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), _locked(left) as mine:
            if mine:
                shutil.rmtree(left, ignore_errors=True)
    for _ in range(3):
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        with contextlib.suppress(OSError):  # another run has just taken it for an abandoned one
            if stack.enter_context(_locked(place)) and place.is_dir():
                return place
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Try to lock a directory of this user; yields whether it is locked."""
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
