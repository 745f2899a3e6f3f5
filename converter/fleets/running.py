"""Runs the tasks of a fleet on its cluster: what is submitted, tried again, and when the cluster is given up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from converter.core.errors import CnnExportError
from converter.core.foreign import JsonObject
from converter.core.text import reason_of
from converter.fleets.cluster import MEMORY, Cluster, Future
from converter.fleets.estimate import memory_of, seconds_of
from converter.fleets.rows import row_of
from converter.fleets.tasks import RETRIED, FleetOptions, FleetRow, Task
from converter.fleets.transfer import discard, receive
from converter.fleets.work import Job, Outcome, write_done

TICK = 0.05
LOST = 30.0
"""Seconds without scheduler or workers after which the rest of a fleet is given up."""
LOOK = 1.0
"""Seconds between two questions to the scheduler for its workers: its answer grows with their number."""
AHEAD = 2
"""Tasks that are submitted at a time, for each thread of the cluster."""


@dataclass
class Prepared:
    """A task to run: its key, the file of its state, and what is known of earlier runs.

    In this run it was submitted `attempts` times, `deaths` times of which its worker died.
    """

    task: Task
    key: str
    state: Path
    known: JsonObject
    attempts: int = 0
    deaths: int = 0

    def again(self, retries: int) -> bool:
        """Whether to try once more; a death of the worker is not blamed on the task before it was alone there."""
        return self.deaths <= max(1, retries) and self.attempts - self.deaths <= retries


@dataclass
class Runner:
    """Runs tasks on `cluster`. With `shared`, workers write to the target directory themselves."""

    cluster: Cluster
    options: FleetOptions
    shared: bool
    send: Callable[[JsonObject], None]
    versions: Mapping[str, str]
    lost: float = LOST
    running: dict[str, tuple[Prepared, Future]] = field(default_factory=dict)

    def run(self, tasks: list[Prepared]) -> Iterator[FleetRow]:
        """Yield the row of each task when it has ended, the longest first.

        Tasks whose worker died are tried again one at a time after all others: one of them may be the cause, and the
        others are not to be blamed for it twice.
        """
        waiting = deque(sorted(tasks, key=lambda each: -seconds_of(each.known)))
        suspects: deque[Prepared] = deque()
        dead_since: float | None = None
        looked = 0.0
        while waiting or suspects or self.running:
            self._submit(waiting, suspects)
            time.sleep(TICK)
            if dead_since is not None or time.monotonic() - looked > LOOK:
                dead_since = None if self.cluster.alive else dead_since or time.monotonic()
                looked = time.monotonic()
            if dead_since is not None and time.monotonic() - dead_since > self.lost:
                yield from self._given_up([*(each for each, _ in self.running.values()), *waiting, *suspects])
                return
            for name, (prepared, future) in list(self.running.items()):
                if not future.done():
                    continue
                outcome, killed = self._outcome(future)
                if killed and dead_since is not None:
                    continue
                del self.running[name]
                prepared.deaths += killed
                if outcome.exit_code == RETRIED and prepared.again(self.options.retries):
                    self.send({"event": "model-retried", "model": name, "reason": outcome.message})
                    (suspects if killed else waiting).append(prepared)
                    continue
                outcome = self._received(prepared, outcome)
                before = prepared.known.get("row")
                yield row_of(
                    prepared.task, prepared.key, outcome, prepared.attempts, before if isinstance(before, dict) else {}
                )

    def _submit(self, waiting: deque[Prepared], suspects: deque[Prepared]) -> None:
        """Submit what the cluster can take; a suspect only if nothing else runs or waits."""
        while waiting and len(self.running) < AHEAD * self.cluster.threads:
            self._start(waiting.popleft())
        if suspects and not self.running:
            self._start(suspects.popleft())

    def _start(self, prepared: Prepared) -> None:
        task = prepared.task
        prepared.attempts += 1
        verifying = task.kind == "verify"
        memory = self.options.memory or (int(self.cluster.resources.get(MEMORY, 0)) or None)
        words = task.arguments
        if verifying or Path(words[1]).is_file():
            words = [words[0], str(Path(words[1]).resolve()), *words[2:]]
        target = "" if verifying or not self.shared else str((self.options.output / task.name).resolve())
        job = Job(
            task.name, tuple(words), prepared.key, target, str(prepared.state) if self.shared and not verifying else "",
            self.options.timeout, memory, self.versions, str(Path.cwd()), prepared.attempts > 1,
        )  # fmt: skip
        future = self.cluster.submit(job, memory_of(task, prepared.known))
        self.running[task.name] = prepared, future
        self.send({"event": "model-submitted", "model": task.name, "attempt": prepared.attempts})

    def _outcome(self, future: Future) -> tuple[Outcome, bool]:
        """The outcome of a future that is done, and whether its worker died or was lost."""
        if future.status == "finished":
            try:
                outcome: Outcome = future.result(timeout=self.lost)
                return outcome, False
            except Exception as error:  # noqa: BLE001  a result that cannot be fetched: its worker has just died
                return Outcome(RETRIED, f"its worker was lost: {reason_of(error)}"), True
        if future.status == "error":
            raised = future.exception(timeout=self.lost)
            if type(raised).__name__ == "KilledWorker":
                return Outcome(RETRIED, "the worker that ran it died"), True
            if isinstance(raised, OSError | CnnExportError):
                return Outcome(getattr(raised, "exit_code", 7), reason_of(raised)), False
            return Outcome(70, reason_of(raised)), False
        return Outcome(RETRIED, f"the cluster dropped it ({future.status})"), True

    def _received(self, prepared: Prepared, outcome: Outcome) -> Outcome:
        """`outcome`, its files fetched if its worker does not see the target, and its state written."""
        verifying = prepared.task.kind == "verify"
        target = self.options.output / prepared.task.name
        if outcome.files and not self.shared:
            try:
                place = receive(outcome, target, self.cluster.fetch(outcome.worker))
                outcome = replace(outcome, summary={**outcome.summary, "directory": str(place)})
                self.cluster.tell(outcome.worker, discard, outcome.root)
            except (CnnExportError, OSError) as error:
                outcome = replace(outcome, exit_code=getattr(error, "exit_code", 7), message=str(error))
        if verifying or not self.shared:
            directory = Path(prepared.task.source) if verifying else target
            directory = directory if directory.is_dir() else directory.parent
            write_done(prepared.state, prepared.key, outcome, directory)
        return outcome

    def _given_up(self, rest: list[Prepared]) -> Iterator[FleetRow]:
        """A failed row for each task that the cluster did not finish."""
        why = "the cluster lost its scheduler or all its workers; run again to continue"
        for each in rest:
            yield row_of(each.task, each.key, Outcome(RETRIED, why), each.attempts, {})
        self.running.clear()
