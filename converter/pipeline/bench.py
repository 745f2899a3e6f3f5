"""`bench`: the arguments checked, the files measured, the report made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from converter.bench.measure import BenchOptions, measure, processors_of
from converter.bench.report import BenchReport, report_of
from converter.bench.subjects import cases, keras_subject, subjects
from converter.core.clock import Clock, Progress
from converter.core.disk import writing
from converter.core.errors import UsageError
from converter.core.limits import Limits, limited


@dataclass(frozen=True)
class BenchRequest:
    """What to measure: exports and files, files of others, runtimes (none: those installed), and a model in Keras.

    `device` "cuda" measures on a GPU as well.
    `limits` are those of each process.
    """

    paths: tuple[Path, ...]
    against: tuple[Path, ...] = ()
    runtimes: tuple[str, ...] = ()
    keras: str = ""
    device: str = "cpu"
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)


@writing()
def bench(request: BenchRequest, options: BenchOptions, progress: Progress | None = None) -> BenchReport:
    """Measure every file in every runtime.

    Raises UsageError for wrong values, InputError for a file that is none, UnavailableError for a runtime that is not
    installed. A file that a runtime refuses, or crashes on, is a row with an error.
    """
    if not options.seconds > 0:
        raise UsageError(f"--seconds {options.seconds:g}: give a number above 0")
    _require_batches(options.batches)
    options = replace(options, processors=processors_of(request.threads), batches=tuple(sorted(set(options.batches))))
    clock = Clock(progress)
    with clock("read"):
        found = cases(request.paths, request.against, options.seed)
        chosen = subjects(found, request.runtimes, request.device)
    if request.keras:
        chosen.append(keras_subject(request.keras, found))
    with limited(request.limits):
        return report_of(measure(chosen, options, clock), options)


def _require_batches(batches: Sequence[int]) -> None:
    if not batches or min(batches) < 1:
        raise UsageError("--batch: give sizes of at least 1")
