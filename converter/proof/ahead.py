"""Runs artifacts as soon as they are written, while the export goes on; the proof then takes what they returned.

That needs nothing but the golden inputs. What was run with other inputs, or at other batch sizes, is not taken.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from converter.bundle.golden import write_golden
from converter.core.data import Arrays, Artifact, Golden, Interface
from converter.core.turn import Turn
from converter.proof.isolate import Done, run_artifact
from converter.proof.plan import first_runtimes
from converter.proof.protocol import Subject, batches_of
from converter.proof.side_by_side import AT_ONCE, Threads, able

_INPUTS = "inputs.npz"


@dataclass(frozen=True)
class _Begun:
    """A run: of what, at which batch sizes, on which inputs; what it returned, when it began, and when it ended."""

    subject: Subject
    batches: tuple[int, ...]
    inputs: Arrays
    result: Future[tuple[Done, float, float]]


class Ahead:
    """Runs each artifact on the CPU in the first runtime of its format. As a context, it ends what nobody took.

    Whoever works meanwhile holds `turn`: latencies are measured afterwards. Nothing is run where the artifacts of an
    export are not run side by side either.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._begun: dict[str, _Begun] = {}
        self._threads = Threads(AT_ONCE)
        self._place = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for begun in self._begun.values():
            if not begun.result.cancelled() and begun.result.exception() is None:
                begun.result.result()[0].place.cleanup()
        self._place.cleanup()

    def stop(self) -> None:
        """End the runs that go on, and begin no other."""
        self._threads.stop()

    def begin(self, directory: Path, artifact: Artifact, interface: Interface, inputs: Arrays) -> None:
        """Run `artifact` of `directory` on `inputs`, shape (samples, ...) by name. Raises OutputError."""
        names = first_runtimes(artifact.format)
        path = Path(self._place.name, _INPUTS)
        subject = Subject(directory, artifact, interface, names[0] if names else "", "cpu", path)
        if not names or not able(self.turn, [subject.path]):
            return
        if not path.exists():
            write_golden(path, Golden(inputs, {}, {}, {}))
        batches = batches_of(inputs)
        result = self._threads.submit(self._run, subject, batches)
        self._begun[artifact.path] = _Begun(subject, batches, inputs, result)

    def taken(self, subject: Subject, batches: tuple[int, ...], golden: Golden) -> Done | None:
        """What `subject` returned for `golden`; None if it was not run on that. Raises what its run raised."""
        begun = self._begun.get(subject.artifact.path)
        if begun is None or golden.resized is not None or begun.inputs is not golden.inputs:
            return None
        if _key(begun.subject) != _key(subject) or begun.batches != batches:
            return None
        del self._begun[subject.artifact.path]
        now = time.perf_counter()
        done, started, ended = begun.result.result()
        return replace(done, before=max(0.0, min(now, ended) - started))

    def _run(self, subject: Subject, batches: tuple[int, ...]) -> tuple[Done, float, float]:
        started = time.perf_counter()
        return run_artifact(subject, batches, self.turn.directory), started, time.perf_counter()


def _key(subject: Subject) -> tuple[object, ...]:
    """What the outputs of a float32 artifact depend on, but for the arrays."""
    return subject.directory, subject.artifact, subject.interface.inputs, subject.runtime, subject.device
