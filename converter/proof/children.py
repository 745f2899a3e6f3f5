"""Child processes that wait for a job, their libraries imported, while this process does something else.

`converter.proof.isolate` gives them their jobs. This module imports the standard library only, so that `cnnexport
verify` starts its children before it imports anything else.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from converter.core.ending import PARENT

if TYPE_CHECKING:
    from converter.proof.forked import Forked

RUN_CHILD = "converter.proof.child"
"""The program that runs an artifact."""

FIRST_RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert", "saved-model": "tensorflow"}
"""The runtime that a format is verified in if no other is asked for, as the table of runtimes says too."""

_INTERVAL = 0.05  # seconds between two looks at a child that starts
_PATIENCE = 20.0  # seconds for a copy of this process to begin
_LARGEST = 1 << 24  # bytes of a manifest that is read before it is checked


@contextmanager
def waiting_children(wanted: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Within the context, one child for each (module, runtime) of `wanted` waits for a job, its libraries imported.

    They start one after the other while the caller does something else, so that importing takes one core. Those that
    got no job are stopped at the end, and so are those that `begin` started meanwhile.
    """
    starter = _Starter(wanted)
    try:
        yield
    finally:
        starter.end()
        for children in WAITING.values():
            while children:
                with children.pop():
                    pass


def begin(wanted: Iterable[tuple[str, str]], *, fork: bool = False) -> None:
    """Start a child for each (module, runtime) now, within the context of `waiting_children`.

    None starts for a pair that one waits for already. It ends with the thread that calls this, as its parent. `fork`
    makes it a copy of this process, see `converter.proof.forked`.
    """
    present = {pair for pair, waiting in WAITING.items() if waiting}
    for module, runtime in (pair for pair in wanted if pair not in present):
        WAITING.setdefault((module, runtime), []).append(Child(module, runtime, fork=fork))


def taken(module: str, runtime: str) -> Child:
    """A child that waits for a job of `module` in `runtime`, or a new one."""
    with _LOCK:
        waiting = WAITING.get((module, runtime))
        child = waiting.pop() if waiting else None
        for pending in _PENDING if child is None else ():
            if (module, runtime) in pending:
                pending.remove((module, runtime))
                break
    if child is not None and not child.sound:
        with child:
            child = None
    return child or Child(module)


def stop(threads: Container[int]) -> None:
    """Kill the children that these threads wait for."""
    for child in [each for each in list(RUNNING) if each.thread in threads]:
        child.process.kill()


def expected(path: Path) -> list[tuple[str, str]]:
    """The children that verifying `path`, a directory or a file in it, will need; a guess, from an unchecked manifest.

    Empty if there is no manifest, or none that can be read.
    """
    try:
        manifest = (path if path.is_dir() else path.parent) / "manifest.json"
        if manifest.stat().st_size > _LARGEST:
            return []
        artifacts = json.loads(manifest.read_bytes())["artifacts"]
        formats = {each["format"] for each in artifacts if path.is_dir() or each["path"] == path.name}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
    return [(RUN_CHILD, runtime) for form, runtime in FIRST_RUNTIMES.items() if form in formats]


class Child:
    """A child process with a directory for its temporary files; as a context, both end with it."""

    def __init__(self, module: str, runtime: str = "", *, fork: bool = False) -> None:
        self.thread = 0
        self.place = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
        variables = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.place.name)
        variables |= {PARENT: str(os.getpid()), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process: Spawned | Forked
        if fork:
            from converter.proof.forked import Forked

            self.process = Forked(module, runtime, variables, Path(self.place.name))
        else:
            self.process = Spawned(module, runtime, variables)

    @property
    def sound(self) -> bool:
        """Whether it can be given a job: a copy of this process that does not even begin is given none."""
        return isinstance(self.process, Spawned) or self.ready(_PATIENCE)

    def ready(self, seconds: float) -> bool:
        """Whether it says within `seconds` that it has imported its libraries, or has ended or been closed."""
        return self.process.ready(seconds)

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        RUNNING.add(self)

    def __exit__(self, *_: object) -> None:
        RUNNING.discard(self)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.close()
        self.place.cleanup()


class _Starter:
    """Starts children one after the other, each when the one before has imported its libraries.

    That is a thread of its own, which the children have as their parent: it ends with the context, not before.
    """

    def __init__(self, wanted: Iterable[tuple[str, str]]) -> None:
        self._ended = threading.Event()
        with _LOCK:
            known = {pair for pair, waiting in WAITING.items() if waiting}.union(*_PENDING)
            self._pending = [pair for pair in wanted if pair not in known]
            _PENDING.append(self._pending)
        self._thread = threading.Thread(target=self._start, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Start no other child."""
        with _LOCK:
            self._pending.clear()
            _PENDING[:] = [each for each in _PENDING if each is not self._pending]
        self._ended.set()
        self._thread.join()

    def _start(self) -> None:
        while True:
            with _LOCK:
                if not self._pending:
                    break
                pair = self._pending.pop(0)
                child = Child(*pair)
                WAITING.setdefault(pair, []).append(child)
            while not (self._ended.is_set() or child in RUNNING or child.ready(_INTERVAL)):
                pass
        self._ended.wait()


class Spawned(subprocess.Popen[bytes]):
    """`python -m module runtime`, with `variables` added to its environment."""

    def __init__(self, module: str, runtime: str, variables: Mapping[str, str]) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        super().__init__(
            [sys.executable, "-P", "-m", module, *([runtime] if runtime else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables, "PYTHONPATH": path},
        )

    def ready(self, seconds: float) -> bool:
        """Whether it says within `seconds` that it has imported its libraries, or has ended or been closed."""
        if self.stdout is None or os.name != "posix":  # a pipe cannot be waited for on Windows
            return True
        try:
            return bool(select.select([self.stdout], [], [], seconds)[0])
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        """Release what belongs to a process that has ended."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


WAITING: dict[tuple[str, str], list[Child]] = {}
"""The children that wait for a job, by module and runtime."""

RUNNING: set[Child] = set()
"""The children that have a job."""

_PENDING: list[list[tuple[str, str]]] = []
_LOCK = threading.Lock()  # of `WAITING` and `_PENDING`
