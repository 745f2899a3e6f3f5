"""How a run ends early: signals end its children and remove what is half written; children end with their parent.

SIGINT, SIGTERM and SIGHUP raise `Ended` in the main thread, which cleans up on its way out. A main thread that waits
for a child does not get there in time; then another thread cleans up and ends the process. Where TensorFlow is loaded
that happens at once: an exception in the middle of its work may crash the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

PATIENCE = 1.2
"""Seconds that the main thread has to clean up by itself"""

PARENT = "CNNEXPORT_PARENT"
"""The environment variable with the process that a child belongs to"""

COMMITTING = threading.Lock()
"""Held while an output takes its place, so that the place is not removed meanwhile"""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_BOUND = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(8); os.execvp(sys.argv[2], sys.argv[2:])"
)
_INTERRUPTED = "interrupted; the previous export is unchanged"
_places: dict[str, None] = {}
_gentle: list[None] = []
_ending = threading.Lock()
_error = [2]  # descriptors of the standard error; the last one is not redirected while a library is kept quiet


class Ended(KeyboardInterrupt):
    """A signal asked this process to end; `number` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def removed_at_end(path: Path) -> Iterator[None]:
    """Within the context, `path` is removed if a signal ends this process; afterwards it is the caller's."""
    _places[str(path)] = None
    try:
        yield
    finally:
        _leave_to_end()
        _places.pop(str(path), None)


@contextlib.contextmanager
def ended_gently() -> Iterator[None]:
    """Within the context the main thread always gets its exception: it says what may go on later."""
    _gentle.append(None)
    try:
        yield
    finally:
        _gentle.pop()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the context, signals end this process as above. Only in the main thread, on POSIX; otherwise nothing."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS]
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        _error.append(os.dup(2))
    os.set_blocking(writing, False)
    before = {
        number: signal.signal(number, _raise) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN
    }
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, frozenset(before)), daemon=True).start()
    try:
        yield
    finally:
        _leave_to_end()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        if len(_error) > 1:
            os.close(_error.pop())


def status_of(error: BaseException | None) -> int:
    """The exit status for what ended a run: 128 and the number of the signal; 130 where none is known."""
    while error is not None:
        if isinstance(error, Ended):
            return 128 + error.number
        error = error.__cause__ or error.__context__
    return 130


def end_with_parent() -> None:
    """Have the kernel kill this child when the thread that started it ends; end at once if its parent has ended."""
    parent = os.environ.pop(PARENT, "")
    if not sys.platform.startswith("linux") or not parent.isdigit():
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent) and not Path("/proc", parent).exists():
        raise SystemExit(8)


def bound(command: Sequence[str]) -> list[str]:
    """`command`, for a program that is not ours, so that it ends with this process; unchanged where that cannot be."""
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on; empty where the system has no /proc."""
    children: dict[int, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(each.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(each.parent.name))
    found, waiting = [], [pid]
    while waiting:
        mine = children.get(waiting.pop(), [])
        found += mine
        waiting += mine
    return found


def end(status: int, message: str) -> NoReturn:
    """End this process now: its children are killed, what is half written is removed, `message` goes to stderr."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait(10 * PATIENCE)  # another thread is doing the same
    with contextlib.suppress(OSError):
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    COMMITTING.acquire(timeout=PATIENCE / 3)
    for place in reversed(list(_places)):
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(place).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(_error[-1], f"\ncnnexport: {message}\n".encode())
    os._exit(status)


def _leave_to_end() -> None:
    """Wait while another thread ends this process: what it waited for has been killed, and its status is not known."""
    if _ending.locked():
        threading.Event().wait(10 * PATIENCE)


def _raise(number: int, _: object) -> None:
    if _gentle or "tensorflow" not in sys.modules:
        raise Ended(number)
    end(128 + number, _INTERRUPTED)


def _watch(reading: int, numbers: frozenset[int]) -> None:
    """Wait for a signal, then for the end of the process; if that takes too long, end it."""
    while received := os.read(reading, 1):
        if received[0] in numbers:
            if _gentle or "tensorflow" not in sys.modules:
                threading.Event().wait(PATIENCE)
            end(128 + received[0], _INTERRUPTED)
    os.close(reading)
