"""A child process that starts as a copy of this one, with what this one has imported: TensorFlow takes seconds.

Only in a process of ours on Linux, right after the import: then no other thread holds a lock that the copy would wait
for. The threads of a linear algebra library at that time are its own; it stops them before a fork and starts them anew.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from converter.core import machine
from converter.core.ending import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_WORDS = "stderr"  # the file in the directory of a child that has its standard error
_STARTED = 3  # the first descriptor that is not a standard one


def able() -> bool:
    """Whether a copy of this process can be a child; the caller answers for the moment."""
    return machine.OWN_PROCESS and sys.platform.startswith("linux")


class Forked:
    """`module`, a program with `prepare` and `answered` as `converter.proof.child` has them, in a copy of this process.

    It has the methods of a `subprocess.Popen` that `converter.proof.children` needs. `variables` are added to its
    environment; `place` is the directory for its temporary files.
    """

    def __init__(self, module: str, runtime: str, variables: Mapping[str, str], place: Path) -> None:
        import multiprocessing  # which `cnnexport verify` does without

        context = multiprocessing.get_context("fork")
        self._job, theirs = context.Pipe()
        self._words = place / _WORDS
        self._process = context.Process(target=_work, args=(module, runtime, variables, place, theirs), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads; see the text of this module
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid or 0

    def poll(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        self._process.kill()

    def wait(self) -> int:
        """Wait until it has ended, and return how."""
        self._process.join()
        return self._process.exitcode or 0

    def ready(self, seconds: float) -> bool:
        """Whether it can take a job within `seconds`, or has ended: a copied lock that nobody opens would stop it."""
        return self._job.poll(seconds)

    def communicate(self, job: bytes) -> tuple[bytes, bytes]:
        """Give it its job and wait for its end: the answer, empty if there is none, and its standard error."""
        answer = b""
        with contextlib.suppress(OSError, EOFError):  # it ended before
            self._job.recv_bytes()
            self._job.send_bytes(job)
            answer = self._job.recv_bytes()
        self.wait()
        return answer, self._words.read_bytes() if self._words.exists() else b""

    def close(self) -> None:
        """Release what belongs to a process that has ended."""
        self._job.close()


def _work(module: str, runtime: str, variables: Mapping[str, str], place: Path, job: Connection) -> None:
    """The child: it is made independent of the process that it is a copy of, then it does as its program says."""
    os.environ.update(variables)
    end_with_parent()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _keep_only(job.fileno(), place / _WORDS)
    tempfile.tempdir = None
    sys.path[:] = filter(None, sys.path)
    program = importlib.import_module(module)
    program.prepare([runtime])
    job.send_bytes(b"ready")
    job.send_bytes(program.answered(program.run, job.recv_bytes()).encode())


def _keep_only(kept: int, words: Path) -> None:
    """Point every other descriptor to the null device: locks and pipes of the parent would outlive it in this process.

    What is printed goes to the file `words`.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are numbers here
        with contextlib.suppress(OSError):  # that of the list itself
            if int(name) >= _STARTED and int(name) not in (kept, null):
                os.dup2(null, int(name), inheritable=False)
    os.dup2(null, 0)
    with words.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
