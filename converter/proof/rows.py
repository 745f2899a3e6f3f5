"""One artifact in one runtime -> a row of the report, its artifact run in a child process.

Several rows are made at a time where that does no harm: on the CPU, with enough memory. Latency is measured while no
other row works (`converter.core.turn`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType

from converter.core.clock import Clock
from converter.core.data import Arrays
from converter.core.errors import ChildError, ConversionError, InputError, UnavailableError
from converter.core.results import Comparison, Control
from converter.core.text import run_name
from converter.core.turn import Turn
from converter.proof.ahead import Ahead
from converter.proof.bounds import Bounds, results_of
from converter.proof.controls import check_shifted
from converter.proof.diagnosis import DIAGNOSIS_RUNTIMES, explain
from converter.proof.exported import Exported
from converter.proof.isolate import Done, run_artifact
from converter.proof.plan import Run, skipped
from converter.proof.points import pick
from converter.proof.precisions import FLOAT32
from converter.proof.protocol import Subject, batches_of
from converter.proof.side_by_side import AT_ONCE, Threads, able
from converter.runtimes import CUDA_TF32


@dataclass(frozen=True)
class Row:
    """A row, the outputs that it was computed from (of the largest batch), and the control made of these outputs."""

    comparison: Comparison
    controls: tuple[Control, ...]
    outputs: Arrays


class Rows:
    """Makes the rows of `runs` on threads. As a context, it waits for what was begun; an interruption ends it.

    `ahead` has the artifacts that were run before, if any were.
    """

    def __init__(
        self, exported: Exported, runs: Sequence[Run], clock: Clock, turn: Turn, ahead: Ahead | None = None
    ) -> None:
        self.clock = clock
        alike = len(runs) > 1 and all(run.device == "cpu" for run in runs)
        together = alike and able(turn, [exported.directory / run.artifact.path for run in runs])
        self.turn = turn if together else Turn(None)
        self._ahead = ahead
        self._comparing = threading.Lock()
        self._threads = Threads(AT_ONCE if together else 1)

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if kind is not None and not issubclass(kind, Exception):
            if self._ahead is not None:
                self._ahead.stop()  # its children are waited for here
            self._threads.stop()
        self._threads.finish()

    def begin(self, jobs: Sequence[tuple[Exported, Run, Bounds]]) -> list[Future[Row | str]]:
        """Begin the rows of some runs, the last one first: it is of TensorFlow, which takes longest.

        A result is text, a note, if the run was optional and is left out. It raises UnavailableError if it was not. A
        run without outputs is a failed row.
        """
        return [self._threads.submit(self._tried, *job) for job in reversed(jobs)][::-1]

    def _tried(self, exported: Exported, run: Run, bounds: Bounds) -> Row | str:
        stage = f"verify {run_name(run.artifact.format, run.artifact.precision, run.runtime, run.device)}"
        with self.clock(stage):
            try:
                done = self._done(exported, run)
                self.clock.add(stage, done.before)
                with self._comparing, self.turn.working():  # one at a time: their outputs may be large
                    return self._row(exported, run, bounds, done)
            except (UnavailableError, ConversionError, InputError, ChildError) as error:
                if run.optional and not isinstance(error, ChildError):
                    return skipped(run.artifact, run.runtime, error)
                if isinstance(error, UnavailableError):
                    raise
                return failed(exported, run, error)

    def _done(self, exported: Exported, run: Run) -> Done:
        subject, batches = subject_of(exported, run), batches_of(exported.golden.inputs, exported.mixes)
        done = self._ahead.taken(subject, batches, exported.golden) if self._ahead else None
        return done or run_artifact(subject, batches, self.turn.directory)

    def _row(self, exported: Exported, run: Run, bounds: Bounds, done: Done) -> Row:
        golden, specs, artifact = exported.golden, exported.interface.by_output, run.artifact
        ran, answer = done.read(), done.answer
        results = results_of(golden, ran, specs, bounds)
        wrong, full = not all(each.passed for each in results), artifact.precision == FLOAT32
        explained = wrong and full and artifact.format in DIAGNOSIS_RUNTIMES and run.device != CUDA_TF32
        row = Comparison(
            subject=artifact.format,
            runtime=run.runtime,
            device=run.device,
            precision=artifact.precision,
            outputs=results,
            samples=golden.samples,
            seconds=answer.latency_seconds,
            size=artifact.size,
            diagnosis=explain(subject_of(exported, run)) if explained else None,
            facts={**answer.facts, "batches": list(answer.batches), "export_seconds": artifact.seconds},
            points=pick(golden, ran.by_batch, specs, results),
        )
        if not full:
            return Row(row, (), ran.largest)
        control = check_shifted(golden, ran.largest, specs, bounds.whole)
        named = replace(control, name=f"{artifact.format} in {run.runtime}: {control.name}")
        return Row(row, (named,), ran.largest)


def subject_of(exported: Exported, run: Run) -> Subject:
    """What a child process gets to know of a run."""
    return Subject(exported.directory, run.artifact, exported.interface, run.runtime, run.device, exported.arrays)


def failed(exported: Exported, run: Run, error: Exception) -> Row:
    """The row of a runtime that crashed or refused the file."""
    artifact = run.artifact
    row = Comparison(
        artifact.format,
        run.runtime,
        run.device,
        artifact.precision,
        (),
        samples=exported.golden.samples,
        size=artifact.size,
        facts={"export_seconds": artifact.seconds},
        error=" ".join(str(error).split()),
    )
    return Row(row, (), {})
