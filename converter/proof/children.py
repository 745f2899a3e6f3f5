"""Child processes that wait for a job, their libraries imported, while this process does something else.

`converter.proof.isolate` gives them their jobs. This module imports the standard library only, so that `cnnexport
verify` starts its children before it imports anything else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from converter.core.ending import PARENT

RUN_CHILD = "converter.proof.child"
"""The program that runs an artifact."""

FIRST_RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert", "saved-model": "tensorflow"}
"""The runtime that a format is verified in if no other is asked for, as the table of runtimes says too."""

_LARGEST = 1 << 24  # bytes of a manifest that is read before it is checked


@contextmanager
def waiting_children(wanted: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Within the context, one child for each (module, runtime) of `wanted` waits for a job, its libraries imported.

    They start while the caller does something else, on another core. Those that got no job are stopped at the end, and
    so are those that `begin` started meanwhile.
    """
    try:
        begin(wanted)
        yield
    finally:
        for children in WAITING.values():
            while children:
                with children.pop():
                    pass


def begin(wanted: Iterable[tuple[str, str]]) -> None:
    """Start a child for each (module, runtime), within the context of `waiting_children`.

    None starts for a pair that one waits for already. It ends with the thread that calls this, as its parent.
    """
    present = {pair for pair, waiting in WAITING.items() if waiting}
    for module, runtime in (pair for pair in wanted if pair not in present):
        WAITING.setdefault((module, runtime), []).append(Child(module, runtime))


def taken(module: str, runtime: str) -> Child:
    """A child that waits for a job of `module` in `runtime`, or a new one."""
    waiting = WAITING.get((module, runtime))
    return waiting.pop() if waiting else Child(module)


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

    def __init__(self, module: str, runtime: str = "") -> None:
        self.thread = 0
        self.place = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.place.name)
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *([runtime] if runtime else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **temporary, PARENT: str(os.getpid()), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path},
        )

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        RUNNING.add(self)

    def __exit__(self, *_: object) -> None:
        RUNNING.discard(self)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self.place.cleanup()


WAITING: dict[tuple[str, str], list[Child]] = {}
"""The children that wait for a job, by module and runtime."""

RUNNING: set[Child] = set()
"""The children that have a job."""
