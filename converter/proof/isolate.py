"""Runs one artifact in one runtime in a child process, and reports how the child ended if it fails.

`converter.proof.child` is the program of the child.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import disk_usage
from urllib.parse import unquote

import numpy as np

from converter.core import errors
from converter.core.data import Array, Arrays
from converter.core.disk import ADVICE
from converter.core.foreign import Json
from converter.core.jsonable import dumps
from converter.core.limits import Watcher, limits_for, size_of
from converter.core.text import last_line
from converter.proof.children import RUN_CHILD, taken
from converter.proof.protocol import RunAnswer, RunJob, Subject, run_answer

_OUTPUTS = "outputs.npz"
FULL = 1 << 16
"""Bytes that are free among the temporary files below which a library that fails there has the disk as its reason"""


@dataclass(frozen=True)
class Ran:
    """What an artifact returned: its outputs by batch size and name, shape (samples, ...).

    `resized` has the outputs for inputs of another size, by the session that computed them: "resized" or "fresh".
    """

    by_batch: Mapping[int, Arrays]
    resized: Mapping[str, Arrays]

    @property
    def largest(self) -> Arrays:
        """The outputs of the largest batch."""
        return self.by_batch[max(self.by_batch)]


@dataclass(frozen=True)
class Done:
    """A run that is done: the child's answer, and its outputs as a file in `place`, which is removed when it is read.

    `before` are the seconds that it took before its row was begun.
    """

    answer: RunAnswer
    place: tempfile.TemporaryDirectory[str]
    before: float = 0.0

    def read(self) -> Ran:
        """The outputs."""
        by_batch: dict[int, dict[str, Array]] = {}
        resized: dict[str, dict[str, Array]] = {}
        with self.place as scratch, np.load(Path(scratch, _OUTPUTS), allow_pickle=False) as arrays:
            for key in arrays.files:
                run, _, name = key.partition("/")
                if run.isdigit():
                    by_batch.setdefault(int(run), {})[unquote(name)] = arrays[key]
                else:
                    resized.setdefault(run, {})[unquote(name)] = arrays[key]
        return Ran(dict(sorted(by_batch.items())), resized)


def run_artifact(subject: Subject, batches: tuple[int, ...], turn: Path | None = None) -> Done:
    """Run `subject` on the golden inputs in its directory, at each batch size of `batches`.

    At a batch size below the number of samples only `samples_at` of them are run. `turn` is the directory of the turns
    of several artifacts that are run at a time (`converter.core.turn`). Raises ChildError if the child crashed or ran
    out of time, and every error of cnnexport that the child reports.
    """
    place = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
    try:
        what = f"{subject.runtime} on {subject.artifact.path}"
        patience = (limits_for(size_of(subject.path)).seconds or 0.0) / 2  # one that hangs must not end this one, too
        job = RunJob(subject, Path(place.name, _OUTPUTS), batches, turn, patience)
        return Done(run_answer(call(RUN_CHILD, job, what, runtime=subject.runtime)), place)
    except BaseException:
        place.cleanup()
        raise


def call(module: str, job: object, what: str, timeout: float | None = None, runtime: str = "") -> Json:
    """The answer of `python -m module` to `job`, both as JSON. Error messages of the child process start with `what`.

    A child that `waiting_children` started for `module` and `runtime` takes the job, otherwise a new one. It is
    stopped at its limits (`converter.core.limits`), or after `timeout` seconds. Raises the errors of `run_artifact`.
    The child imports nothing from the current directory, which may be that of the artifacts.
    Temporary files that it leaves are removed.
    """
    child, limits = taken(module, runtime), limits_for(_size(job))
    with child:
        with Watcher(child.process, limits if timeout is None else replace(limits, seconds=timeout)) as watcher:
            stdout, stderr = child.process.communicate(dumps(job).encode())
        if watcher.reason:
            raise errors.ChildError(f"{what}: {watcher.reason}")
        code = child.process.wait()
        if code != 0 and disk_usage(child.place.name).free < FULL:
            raise errors.OutputError(
                f"{what}: its process {_exit_reason(code)}; there is no space left in {child.place.name}\n{ADVICE}"
            )
    if code != 0:
        raise errors.ChildError(f"{what}: its process {_exit_reason(code)}{_stderr_reason(stderr)}")
    try:
        answer = json.loads(stdout)
    except ValueError as error:
        raise errors.ChildError(f"{what}: its process ended without an answer{_stderr_reason(stderr)}") from error
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer


def _size(job: object) -> int:
    """The bytes of the artifact that a job is about."""
    subject = getattr(job, "subject", None)
    return size_of(subject.path) if isinstance(subject, Subject) else 0


def _exit_reason(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed ({name}{', probably out of memory' if name == 'SIGKILL' else ''})"
    return f"failed with status {code}"


def _stderr_reason(stderr: bytes) -> str:
    last = last_line(stderr.decode(errors="replace"))
    return f": {last}" if last else ""
