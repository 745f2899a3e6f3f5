"""Runs one artifact in one runtime in a child process, and reports how the child ended if it fails.

`converter.proof.child` is the program of the child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from converter.core import errors
from converter.core.data import Array, Arrays
from converter.core.foreign import Json
from converter.core.jsonable import dumps
from converter.core.text import last_line
from converter.proof.protocol import RunAnswer, RunJob, Subject, run_answer

RUN_CHILD = "converter.proof.child"
"""The program that runs an artifact."""

TIMEOUT = 900.0
"""Time limit for a child, in seconds."""


@dataclass(frozen=True)
class Ran:
    """What an artifact returned: its outputs by batch size and name, shape (samples, ...), and the child's answer.

    `resized` has the outputs for inputs of another size, by the session that computed them: "resized" or "fresh".
    """

    by_batch: Mapping[int, Arrays]
    resized: Mapping[str, Arrays]
    answer: RunAnswer | None = None

    @property
    def largest(self) -> Arrays:
        """The outputs of the largest batch."""
        return self.by_batch[max(self.by_batch)]


def run_artifact(subject: Subject, batches: tuple[int, ...], timeout: float = TIMEOUT) -> Ran:
    """Run `subject` on the golden inputs in its directory, at each batch size of `batches`.

    At a batch size below the number of samples only `samples_at` of them are run. Raises ChildError if the child
    crashed or ran out of time, and every error of cnnexport that the child reports.
    """
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        results = Path(scratch, "outputs.npz")
        what = f"{subject.runtime} on {subject.artifact.path}"
        answer = run_answer(call(RUN_CHILD, RunJob(subject, results, batches), what, timeout, subject.runtime))
        by_batch: dict[int, dict[str, Array]] = {}
        resized: dict[str, dict[str, Array]] = {}
        with np.load(results, allow_pickle=False) as arrays:
            for key in arrays.files:
                run, _, name = key.partition("/")
                if run.isdigit():
                    by_batch.setdefault(int(run), {})[unquote(name)] = arrays[key]
                else:
                    resized.setdefault(run, {})[unquote(name)] = arrays[key]
    return Ran(dict(sorted(by_batch.items())), resized, answer)


def call(module: str, job: object, what: str, timeout: float = TIMEOUT, runtime: str = "") -> Json:
    """The answer of `python -m module` to `job`, both as JSON. Error messages of the child process start with `what`.

    A child that `waiting_children` started for `module` and `runtime` takes the job, otherwise a new one. Raises the
    errors of `run_artifact`. The child imports nothing from the current directory, which may be that of the artifacts.
    Temporary files that it leaves are removed.
    """
    waiting = _WAITING.get((module, runtime))
    child = waiting.pop() if waiting else _Child(module)
    with child:
        try:
            stdout, stderr = child.process.communicate(dumps(job).encode(), timeout)
        except subprocess.TimeoutExpired as error:
            raise errors.ChildError(f"{what}: no answer after {timeout:.0f} s; its process was stopped") from error
    code = child.process.returncode
    if code != 0:
        raise errors.ChildError(f"{what}: its process {_exit_reason(code)}{_stderr_reason(stderr)}")
    try:
        answer = json.loads(stdout)
    except ValueError as error:
        raise errors.ChildError(f"{what}: its process ended without an answer{_stderr_reason(stderr)}") from error
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer


@contextmanager
def waiting_children(wanted: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Within the context, one child for each (module, runtime) of `wanted` waits for a job, its libraries imported.

    They start while the caller does something else, on another core. Those that got no job are stopped at the end.
    """
    try:
        for module, runtime in wanted:
            _WAITING.setdefault((module, runtime), []).append(_Child(module, runtime))
        yield
    finally:
        for children in _WAITING.values():
            while children:
                with children.pop():
                    pass


class _Child:
    """A child process with a directory for its temporary files; as a context, both end with it."""

    def __init__(self, module: str, runtime: str = "") -> None:
        self.place = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.place.name)
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *([runtime] if runtime else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **temporary, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path},
        )

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self.place.cleanup()


_WAITING: dict[tuple[str, str], list[_Child]] = {}
"""The children that wait for a job, by module and runtime."""


def _exit_reason(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed ({name}{', probably out of memory' if name == 'SIGKILL' else ''})"
    return f"failed with status {code}"


def _stderr_reason(stderr: bytes) -> str:
    last = last_line(stderr.decode(errors="replace"))
    return f": {last}" if last else ""
