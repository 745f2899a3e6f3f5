"""What a measurement shows: figures of each subject, comparisons, and the control; as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converter.bench.figures import (
    CONTROL_LEVEL,
    FEWEST_ROUNDS,
    LEVEL,
    Answer,
    Estimate,
    Latency,
    answer,
    latency,
    ratio,
    resolution,
    too_noisy,
)
from converter.bench.measure import BenchOptions, Measured
from converter.bench.subjects import KERAS, Case, Subject
from converter.core import machine
from converter.core.foreign import Facts
from converter.core.text import place_of
from converter.runtimes.shared.installed import cpu_name

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """The figures of one subject; seconds, bytes, and samples in a second by batch size."""

    file: str
    format: str
    precision: str
    runtime: str
    device: str
    peer: bool
    size: int
    load: float | None
    first: float | None
    latency: dict[int, Latency]
    throughput: dict[int, float]
    memory: int
    peak: int
    facts: Facts
    error: str = ""


@dataclass(frozen=True)
class Compared:
    """How many times as long `file` takes for one inference as `base`, in the same runtime unless that is Keras.

    The devices differ where a file on a GPU is compared with itself on the CPU.
    """

    file: str
    base: str
    runtime: str
    base_runtime: str
    device: str
    base_device: str
    ratio: Estimate
    answer: Answer


@dataclass(frozen=True)
class BenchReport:
    """A whole measurement. `control` is the ratio of a file to itself, None if it could not be measured."""

    schema: int
    kind: str
    environment: Facts
    processor: str
    threads: int
    options: BenchOptions
    control_of: str
    control: Estimate | None
    resolution: float | None
    too_noisy: bool
    rows: tuple[Row, ...]
    comparisons: tuple[Compared, ...]

    @property
    def exit_code(self) -> int:
        """0; 8 if a subject could not be measured, 9 if the machine cannot tell a file from itself."""
        if any(row.error for row in self.rows):
            return 8
        return 9 if self.too_noisy or self.control is None else 0


def report_of(found: Sequence[Measured], options: BenchOptions) -> BenchReport:
    """The report of what `converter.bench.measure.measure` returned."""
    *own, twin = found
    control = _ratio(twin, own[0], options.seed, CONTROL_LEVEL)
    noisy = control is not None and too_noisy(control)
    compared = []
    for base, other in _pairs(own):
        found_ratio = _ratio(other, base, options.seed, LEVEL)
        if found_ratio is not None and control is not None:
            verdict = answer(found_ratio, control)
            one, two = other.subject, base.subject
            names = one.case.name, two.case.name, one.runtime, two.runtime, one.device, two.device
            compared.append(Compared(*names, found_ratio, verdict))
    return BenchReport(
        schema=SCHEMA,
        kind="bench",
        environment=machine.describe(),
        processor=cpu_name(),
        threads=len(options.processors),
        options=options,
        control_of=f"{own[0].subject.case.name} in {own[0].subject.place}",
        control=control,
        resolution=None if control is None else resolution(control),
        too_noisy=noisy,
        rows=tuple(_row(each, options.seed) for each in own),
        comparisons=tuple(compared),
    )


def _row(found: Measured, seed: int) -> Row:
    case = found.subject.case
    enough = {batch: rounds for batch, rounds in found.rounds.items() if len(rounds) >= FEWEST_ROUNDS}
    latencies = {batch: latency(rounds, seed) for batch, rounds in sorted(enough.items())}
    return Row(
        file=case.name,
        format=case.artifact.format,
        precision="" if case.foreign else case.artifact.precision,
        runtime=found.subject.runtime,
        device=found.subject.device,
        peer=case.peer,
        size=case.artifact.size,
        load=statistics.median(found.loads) if found.loads else None,
        first=statistics.median(found.firsts) if found.firsts else None,
        latency=latencies,
        throughput={batch: batch / each.median.value for batch, each in latencies.items()},
        memory=found.memory,
        peak=found.peak,
        facts=found.facts,
        error=found.error,
    )


def _pairs(found: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """(base, other): other precisions with float32, own files with a peer's, a GPU with the CPU, and all with Keras.

    Files are paired in the same runtime; a precision with the float32 file of its format and directory.
    """
    for other in found:
        for base in found:
            if base is not other and _comparable(base.subject, other.subject):
                yield base, other


def _comparable(base: Subject, other: Subject) -> bool:
    if base.runtime == KERAS:
        return other.runtime != KERAS
    if base.device != other.device:
        return base.device == "cpu" and base.runtime == other.runtime and base.case is other.case
    if base.runtime != other.runtime or base.case.artifact.format != other.case.artifact.format:
        return False
    if base.case.peer:
        return not other.case.peer
    return not other.case.peer and _beside(base.case, other.case)


def _beside(base: Case, other: Case) -> bool:
    single = base.artifact.precision == "float32" != other.artifact.precision
    return single and base.path.parent == other.path.parent


def _ratio(other: Measured, base: Measured, seed: int, level: float) -> Estimate | None:
    """The ratio at the smallest batch that both have, None if there are too few rounds."""
    shared = sorted(other.rounds.keys() & base.rounds.keys())
    if not shared or other.error or base.error:
        return None
    one, two = other.rounds[shared[0]], base.rounds[shared[0]]
    count = min(len(one), len(two))
    return ratio(one[:count], two[:count], seed, level) if count >= FEWEST_ROUNDS else None


def lines(report: BenchReport) -> Iterator[tuple[str, ...]]:
    """The cells of the table, a head first."""
    batches = sorted({batch for row in report.rows for batch in row.throughput})
    smallest = batches[0] if batches else 1
    yield (
        "file", "precision", "runtime", "size", "load", "first", f"median ({smallest})", "95 %", "p90",
        *(f"{batch}: samples/s" for batch in batches), "memory", "to float32",
    )  # fmt: skip
    for row in report.rows:
        timed = row.latency.get(min(row.latency, default=0))
        found = next((each for each in report.comparisons if _is_to_float32(each, row, report)), None)
        yield (
            row.file,
            row.precision,
            place_of(row.runtime, row.device),
            f"{row.size / 1e6:.2f} MB" if row.size else "",
            _time(row.load),
            _time(row.first),
            _time(timed.median.value) if timed else (row.error or "too few rounds")[:60],
            f"{_time(timed.median.low)} to {_time(timed.median.high)}" if timed else "",
            _time(timed.p90.value) if timed and timed.p90 else "",
            *(f"{row.throughput[batch]:,.0f}" if batch in row.throughput else "" for batch in batches),
            f"{row.memory / 1e6:.0f} MB",
            f"{found.ratio.value:.2f} x, {found.answer}" if found else "",
        )


def sentences(report: BenchReport) -> Iterator[str]:
    """The lines below the table."""
    if report.control is None:
        yield "inconclusive: too few rounds to measure a file against itself; give more --seconds"
    else:
        pair = f"{report.control.value:.3f} ({report.control.low:.3f} to {report.control.high:.3f})"
        yield f"control: {report.control_of} against itself takes {pair} times as long"
    if report.too_noisy:
        yield "inconclusive: this machine is too noisy to tell a file from itself; nothing is compared"
    elif report.resolution is not None:
        yield f"differences below {report.resolution:.1%} cannot be told on this machine"
    rows = {(row.file, row.runtime, row.device): row for row in report.rows}
    for each in report.comparisons:
        row = rows[each.file, each.runtime, each.device]
        if not _is_to_float32(each, row, report):
            share = f"{each.ratio.value:.2f} ({each.ratio.low:.2f} to {each.ratio.high:.2f})"
            one, two = place_of(each.runtime, each.device), place_of(each.base_runtime, each.base_device)
            yield f"{each.file} in {one} against {each.base} in {two}: {share} times as long, {each.answer}"
    for row in report.rows:
        if row.error:
            yield f"{row.file} in {place_of(row.runtime, row.device)}: not measured: {row.error}"
    gpus = {str(row.facts["device_name"]) for row in report.rows if row.device != "cpu" and "device_name" in row.facts}
    devices = ", ".join([report.processor, *sorted(gpus)])
    yield f"{devices}, {report.threads} threads for every process, seed {report.options.seed}"


def _is_to_float32(each: Compared, row: Row, report: BenchReport) -> bool:
    if (each.file, each.runtime, each.device) != (row.file, row.runtime, row.device) or each.device != each.base_device:
        return False
    base = next(other for other in report.rows if (other.file, other.runtime) == (each.base, each.base_runtime))
    return not base.peer and base.runtime != KERAS


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.3f} ms"
