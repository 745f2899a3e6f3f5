"""What a worker does for one task: starts `cnnexport` as a child process, limits it, and summarizes its answer.

TensorFlow's memory goes with the child, and the worker's own threads stay free for its heartbeat.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from converter.bundle.directory import locate
from converter.core.files import files_under, record_of
from converter.core.foreign import Json, JsonObject
from converter.core.text import one_line, printable
from converter.fleets import state
from converter.fleets.keys import versions
from converter.fleets.tasks import RETRIED
from converter.report.summary import summary_of

TICK = 0.1
"""Seconds between two looks at a child."""
LARGEST_ANSWER = 256 << 20
UNPROVEN = ".unproven"
PROGRAM = ("-P", "-m", "converter.fleets.guard")
PREFIX = "cnnexport-fleet-"
"""Of the temporary directories of jobs."""


@dataclass(frozen=True)
class Job:
    """One task for a worker. `target` is the directory to write, "" if the client fetches what was written.

    `state` is the file of the task's state, "" if the client writes it. `versions` are the client's; a worker with
    other ones refuses. `place` is the client's current directory. `again`: the worker of an earlier attempt died.
    """

    name: str
    arguments: tuple[str, ...]
    key: str
    target: str
    state: str
    timeout: float
    memory: int | None
    versions: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    again: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job. `files` are name, size and sha256 of what the client has to fetch from `root`."""

    exit_code: int
    message: str = ""
    seconds: float = 0.0
    memory: int = 0
    worker: str = ""
    summary: Mapping[str, Json] = field(default_factory=dict)
    root: str = ""
    files: tuple[tuple[str, int, str], ...] = ()


def work(job: Job) -> Outcome:
    """Run `job` in a child process. Never raises for what the child does."""
    if problem := other_versions(job.versions, versions()):
        return Outcome(5, f"the worker has {problem}", worker=_own_name())
    scratch = Path(tempfile.mkdtemp(prefix=PREFIX))
    verifying = job.arguments[0] == "verify"
    directory = locate(Path(job.arguments[1]))[0] if verifying else Path(job.target or scratch / "export")
    if job.state:
        known = state.read_state(Path(job.state)) if job.again else {}
        done = state.done_before(known, job.key, directory) if known.get("status") == state.STARTED else None
        if done is not None:  # the earlier attempt had committed it
            outcome = Outcome(0, worker=_own_name(), summary=done)
            write_done(Path(job.state), job.key, outcome, directory)
            scratch.rmdir()
            return outcome
        state.started(Path(job.state), job.key, directory)
    destination = () if verifying else ("--output", str(directory))
    outcome = run_child((*job.arguments, *destination, "--json", "--quiet"), job, scratch)
    if job.state:
        write_done(Path(job.state), job.key, outcome, directory)
    if job.target or verifying:
        shutil.rmtree(scratch, ignore_errors=True)
        return outcome
    written = directory if outcome.exit_code == 0 else directory.with_name(directory.name + UNPROVEN)
    if not written.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
        return outcome
    records = [(name, record_of(written / name)) for name in files_under(written, written)]
    files = tuple((name, each.size, each.sha256) for name, each in records)
    return replace(outcome, root=str(written), files=files)


def other_versions(expected: Mapping[str, str], own: Mapping[str, str]) -> str:
    """The first library of `expected` that has another version in `own`, as a sentence; "" if all are the same."""
    for name, version in expected.items():
        if own.get(name) != version:
            return f"{name} {own.get(name, '(none)')} instead of {version}"
    return ""


def write_done(path: Path, key: str, outcome: Outcome, directory: Path) -> None:
    """Record how a task ended. Raises OSError."""
    state.write_state(
        path,
        {
            "key": key,
            "status": state.DONE,
            "exit_code": outcome.exit_code,
            "manifest": state.manifest_hash(directory) if outcome.exit_code == 0 else "",
            "memory": outcome.memory,
            "seconds": outcome.seconds,
            "row": dict(outcome.summary),
        },
    )


def run_child(arguments: tuple[str, ...], job: Job, scratch: Path) -> Outcome:
    """`cnnexport ARGUMENTS` in a process group of its own, stopped at the limits of `job`."""
    path = os.pathsep.join(filter(None, sys.path))
    own = {"TMPDIR": str(scratch), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    own["CNNEXPORT_FLEET_PARENT"] = str(os.getpid())
    begun = time.perf_counter()
    with (scratch / "answer").open("w+b") as answer, (scratch / "errors").open("w+b") as errors:
        process = subprocess.Popen(
            [sys.executable, *PROGRAM, *arguments],
            stdin=subprocess.DEVNULL, stdout=answer, stderr=errors, env={**os.environ, **own},
            cwd=job.place if job.place and Path(job.place).is_dir() else None, start_new_session=True,
        )  # fmt: skip
        try:
            stopped, memory = _watch(process, job, begun)
        finally:
            if process.poll() is None:
                _kill(process)
        seconds = time.perf_counter() - begun
        code = RETRIED if stopped or process.returncode < 0 else process.returncode
        summary = _summary(answer)
        if process.returncode < 0 and not stopped:
            stopped = f"its process was killed ({signal.Signals(-process.returncode).name})"
        message = stopped or _text(summary, "message") or _last_lines(errors) if code else ""
    summary = {**summary, "exit_code": code, "message": message}
    return Outcome(code, message, seconds, memory, _own_name(), summary)


def _watch(process: subprocess.Popen[bytes], job: Job, begun: float) -> tuple[str, int]:
    """Wait for `process`. Returns why it was stopped, "" if it ended by itself, and its largest resident size."""
    largest = 0
    while True:
        try:
            process.wait(TICK)
        except subprocess.TimeoutExpired:
            largest = max(largest, now := resident(process.pid))
            if job.memory is not None and now > job.memory:
                _kill(process)
                return f"more than {job.memory >> 20:,} MB of memory; its process was stopped", largest
            if time.perf_counter() - begun > job.timeout:
                _kill(process)
                return f"no answer after {job.timeout:g} s; its process was stopped", largest
        else:
            return "", largest


def resident(pid: int) -> int:
    """The resident size of a process and its descendants, in bytes; 0 if it has ended."""
    import psutil

    total = 0
    try:
        top = psutil.Process(pid)
        for each in (top, *top.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    process.wait()


def _summary(answer: IO[bytes]) -> JsonObject:
    """The summary of the JSON report that a child printed; empty if it printed none."""
    answer.seek(0)
    try:
        value = json.loads(answer.read(LARGEST_ANSWER))
    except (ValueError, RecursionError):
        return {}
    return summary_of(value) if isinstance(value, dict) else {}


def _last_lines(errors: IO[bytes]) -> str:
    """What a child said about its error: the lines from "cnnexport:" on, else the last one."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 8192))
    lines = [each for each in errors.read().decode(errors="replace").splitlines() if each.strip()]
    first = next((at for at in reversed(range(len(lines))) if lines[at].startswith("cnnexport: ")), len(lines) - 1)
    return one_line(printable("\n".join(lines[max(0, first) :][:3])).removeprefix("cnnexport: "), 600)


def _text(value: JsonObject, key: str) -> str:
    return str(value.get(key) or "")


def _own_name() -> str:
    return f"{os.uname().nodename if hasattr(os, 'uname') else 'worker'}:{os.getpid()}"
