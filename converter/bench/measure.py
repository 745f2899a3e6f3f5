"""Measures subjects in processes that wait for each other, in an order that is drawn anew in every round.

Each subject is started several times, for the times of loading and of the first inference; the last process stays for
the rounds. One subject has a twin, a process of the same file in the same runtime: what differs between these two is
the machine.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from converter.bench.subjects import KERAS, Subject
from converter.core import errors
from converter.core.clock import Clock
from converter.core.ending import PARENT
from converter.core.foreign import Facts, Json
from converter.core.jsonable import plain
from converter.core.limits import Watcher, limits_for, size_of
from converter.core.text import last_line

CHILD = "converter.bench.child"
SLICE = 0.02
"""Seconds of inference in one round of one subject, at least one inference"""

MOST_ROUNDS = 100


@dataclass(frozen=True)
class BenchOptions:
    """How long and how: `seconds` of inference for each subject, processes `starts` for loading, `batches` to run.

    `processors` are the ones that every process is restricted to.
    """

    batches: tuple[int, ...] = (1, 4, 16)
    seconds: float = 2.0
    starts: int = 3
    processors: tuple[int, ...] = ()
    seed: int = 0


@dataclass
class Measured:
    """The times of a subject: seconds of loading and of the first inference by start, of rounds by batch.

    `memory` is what loading and the first inference added to the process, `peak` the most that it had at any batch.
    `error` says why it could not be measured, "" if it could.
    """

    subject: Subject
    loads: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    rounds: dict[int, list[list[float]]] = field(default_factory=dict)
    memory: int = 0
    peak: int = 0
    facts: Facts = field(default_factory=dict)
    error: str = ""


def processors_of(threads: int | None) -> tuple[int, ...]:
    """The processors to measure on: all that this process may use, or the first `threads` of them.

    Raises UsageError if there are not as many.
    """
    able = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if threads is None:
        return tuple(able)
    if threads > len(able):
        raise errors.UsageError(f"--threads {threads}: this process may use {len(able)} processors")
    return tuple(able[:threads])


def measure(subjects: Sequence[Subject], options: BenchOptions, clock: Clock) -> list[Measured]:
    """The times of every subject, and of a twin of the first one, which is last.

    A subject that crashes or whose runtime refuses its file has an `error`; the others are measured.
    """
    found = [Measured(each) for each in (*subjects, replace(subjects[0], twin=True))]
    order = random.Random(options.seed)
    with ExitStack() as stack:
        processes: dict[int, _Process] = {}
        for start in range(options.starts):
            with clock(f"load, {start + 1} of {options.starts}"):
                for place in order.sample(range(len(found)), len(found)):
                    process = _Process(found[place], options)
                    if start + 1 < options.starts or found[place].error:
                        process.close()
                    else:
                        processes[place] = process
                        stack.callback(process.close)
        pairs = [(place, batch) for place in processes for batch in _batches(found[place], options)]
        each = max(1, len(options.batches))
        ends = time.perf_counter() + options.seconds * max(1, len(pairs)) / each
        with clock("rounds"):
            for number in range(MOST_ROUNDS):
                if number >= 8 and time.perf_counter() > ends:
                    break
                for place, batch in order.sample(pairs, len(pairs)):
                    if not found[place].error:
                        processes[place].run(batch)
    return found


def _batches(measured: Measured, options: BenchOptions) -> tuple[int, ...]:
    fixed = measured.subject.case.artifact.inputs[0].shape[0]
    return (fixed,) if fixed else options.batches


class _Process:
    """A child that has loaded the file of `measured`, or has left an error there."""

    def __init__(self, measured: Measured, options: BenchOptions) -> None:
        self.measured = measured
        self.sizes: set[int] = set()
        self.place = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
        self.log = (Path(self.place.name) / "stderr").open("w+b")
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.place.name)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={
                **os.environ,
                **temporary,
                PARENT: str(os.getpid()),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
        self._load(options)

    def run(self, batch: int) -> None:
        """One round at a batch size."""
        fresh = self.sizes != {batch}  # a runtime plans anew for another size
        self.sizes = {batch}
        answer = self._ask({"do": "run", "batch": batch, "seconds": SLICE, "fresh": fresh})
        if not self.measured.error:
            self.measured.rounds.setdefault(batch, []).append(answer["times"])

    def close(self) -> None:
        """End the child."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        self.place.cleanup()

    def _load(self, options: BenchOptions) -> None:
        case, measured = self.measured.subject.case, self.measured
        inputs = Path(self.place.name, "inputs.npz")
        np.savez(inputs, allow_pickle=False, **{quote(name, safe=""): array for name, array in case.inputs.items()})
        answer = self._ask(
            {
                "do": "load",
                "artifact": plain(case.artifact),
                "path": str(case.path if measured.subject.runtime == KERAS else case.path.resolve()),
                "runtime": measured.subject.runtime,
                "device": measured.subject.device,
                "inputs": str(inputs),
                "processors": list(options.processors),
            }
        )
        if not measured.error:
            measured.loads.append(answer["load"])
            measured.firsts.append(answer["first"])
            measured.memory = max(measured.memory, answer["peak"] - answer["before"])
            measured.facts = answer["facts"]

    def _ask(self, request: Facts) -> Json:
        """The answer of the child; its error, or how it ended, is left in `measured`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with Watcher(self.process, limits_for(size_of(self.measured.subject.case.path))) as watcher:
            try:
                self.process.stdin.write(json.dumps(request).encode() + b"\n")
                self.process.stdin.flush()
                line = self.process.stdout.readline()
            except OSError:
                line = b""
        if watcher.reason:
            self.measured.error = watcher.reason
            return {}
        if not line:
            self.process.wait()
            self.log.seek(0)
            last = last_line(self.log.read().decode(errors="replace"))
            self.measured.error = f"its process ended with status {self.process.returncode}: {last}"
            return {}
        answer = json.loads(line)
        self.measured.error = answer.get("message", "")
        self.measured.peak = max(self.measured.peak, answer.get("peak", 0))
        return answer
