"""Artifacts on disk -> rows, controls and a verdict: every artifact in its runtimes, each in a child process.

What is compared and how is `converter.proof.comparison`'s work, where it runs `converter.proof.isolate`'s; here the two meet. Used by
the export right after writing and by `cnnexport verify`; needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converter.proof import comparison as compare
from converter.core.data import Arrays, Artifact, Golden, TensorSpec, Verdict
from converter.proof.diagnosis import READ_IN, explain
from converter.core.errors import ConversionError, InputError, UnavailableError, UsageError
from converter.proof.isolate import run_artifact
from converter.proof.points import pick
from converter.core.results import Comparison, Control, OutputResult, Stage, Tolerance
from converter.runtimes import DEVICES, ON_GPU, RUNTIMES, TENSORRT
from converter.proof.error_chain import stages

Clock = Callable[[str], AbstractContextManager[None]]

ALL = "all"
"""As the name of a runtime: every one that reads an artifact; those that cannot run are told, not an error."""


@dataclass(frozen=True)
class Evidence:
    """What a proof found. `tolerances` are those of float32; rows of another precision carry theirs in `facts`.

    `skipped` has a sentence for each runtime that "all" includes and that did not run, with the reason.
    """

    rows: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    tolerances: Mapping[str, Tolerance]
    separation: Mapping[str, float]
    verdict: Verdict
    reasons: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class _Run:
    """One artifact in one runtime on one device; an `optional` one may turn out not to be possible."""

    artifact: Artifact
    runtime: str
    device: str
    optional: bool = False


def check_runtimes(names: Iterable[str], device: str) -> None:
    """Raise UsageError for an unknown runtime or device, UnavailableError for one that cannot run here.

    "all" asks for none in particular.
    """
    if device not in DEVICES:
        raise UsageError(f"--device {device}: choose from {', '.join(DEVICES)}")
    for name in names:
        if name not in RUNTIMES and name != ALL:
            raise UsageError(f"--runtime {name}: no such runtime\nchoose from {', '.join(RUNTIMES)}, or {ALL}")
        if name != ALL:
            _require(name, "cpu")
    if device != "cpu":
        able = [name for name, runtime in RUNTIMES.items() if device in runtime.devices]
        for name in able:
            _require(name, device)


def prove(
    directory: Path,
    artifacts: Sequence[Artifact],
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    golden: Golden,
    clock: Clock,
    *,
    runtimes: Sequence[str] = (),
    device: str = "cpu",
    chosen: float | None = None,
    rewritten: Arrays | None = None,
    every: bool = True,
    precision: str = "float32",
) -> Evidence:
    """Run every artifact of `directory` in every runtime that reads it and compare with `golden`.

    `specs` are the Keras model's inputs and outputs, `rewritten` the rewritten Keras model's outputs, the first row;
    `precision` "float16" tells that Keras computed the golden outputs in half precision.
    Without `runtimes`, each format is run in the first that reads it, which must be here unless `every` is False;
    `device` "cuda" adds rows with TF32 off and on, and one with TensorRT where that is installed.
    With "all" among them, each format is run in every runtime that reads it; one that is missing or cannot take the
    model is left out and told in `skipped`, except the first one of a format. Raises UnavailableError where a runtime
    asked for is missing, UsageError where it reads nothing here, and the errors of `converter.proof.isolate`.
    """
    outputs = {spec.name: spec for spec in specs[1]}
    plans, skipped = _plan(artifacts, runtimes, device, every)
    judged: list[tuple[Verdict, tuple[str, ...]]] = []
    rows: list[Comparison] = []
    controls: list[Control] = []
    answers: dict[tuple[str, str, str], Arrays] = {}
    separation = compare.separation(golden.references, outputs)
    plain = compare.tolerances(golden.references, golden.exact, outputs, precision, chosen=chosen)
    for tf32 in (False, True):
        runs = [run for run in plans if (run.device == "cuda-tf32") is tf32]
        if tf32 and not runs:
            continue
        tolerances = compare.tolerances(golden.references, golden.exact, outputs, precision, tf32=tf32, chosen=chosen)
        found = list(compare.check_controls(golden, None, outputs, tolerances))
        group: list[Comparison] = []
        if rewritten is not None and not tf32:
            results = _results(golden, {0: rewritten}, outputs, tolerances)
            row = Comparison("keras-rewritten", "keras", "cpu", "float32", results, golden.samples)
            group.append(replace(row, points=pick(golden, {0: rewritten}, outputs, results)))
        for run in runs:
            on = "" if run.device == "cpu" else f" on {run.device}"
            with clock(f"verify {run.artifact.format} in {run.runtime}{on}"):
                try:
                    row, rolled, answer = _row(directory, run, specs, golden, outputs, tolerances)
                except (UnavailableError, ConversionError, InputError) as error:
                    if not run.optional:
                        raise
                    skipped.append(_skipped(run.artifact, run.runtime, error))
                    continue
            group.append(replace(row, facts={**row.facts, "tolerance": tolerances}) if tf32 else row)
            found.extend(rolled)
            answers[run.artifact.format, run.runtime, run.device] = answer
        judged.append(compare.judge(group, found, separation, tolerances))
        rows.extend(group)
        controls.extend(replace(each, name=f"{each.name} (TF32)") if tf32 else each for each in found)
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    verdict = min((each for each, _ in judged), key=order.index)
    causes = (f"{row.subject} in {row.runtime} on {row.device}: {row.diagnosis.text}" for row in rows if row.diagnosis)
    reasons = (*(reason for _, each in judged for reason in each), *causes)
    steps = stages(golden, rewritten, answers, outputs)
    return Evidence(tuple(rows), tuple(controls), plain, separation, verdict, reasons, tuple(skipped), steps)


def _plan(
    artifacts: Sequence[Artifact], names: Sequence[str], device: str, every: bool
) -> tuple[list[_Run], list[str]]:
    """What to run, and a sentence for each runtime that nobody named and that is not here."""
    plan, skipped = [], []
    for artifact in artifacts:
        able = [name for name, runtime in RUNTIMES.items() if artifact.format in runtime.reads]
        if not able:  # left out, it would count as proven
            raise InputError(f"{artifact.path}: no runtime reads the format {artifact.format!r}; upgrade cnnexport")
        wanted = able if ALL in names else [each for each in names if each in able] if names else able[:1]
        for name in wanted:
            swept = ALL in names and name not in names
            unnamed = swept or not (names or every)
            reason = RUNTIMES[name].unavailable("cpu") if unnamed else None
            if reason:
                skipped.append(_skipped(artifact, name, reason))
                continue
            _require(name, "cpu")
            plan.append(_Run(artifact, name, "cpu", optional=swept and name != able[0]))
        for name, where in itertools.product(able, ON_GPU if device == "cuda" else ()):
            if where not in RUNTIMES[name].devices:
                continue
            reason = RUNTIMES[name].unavailable(where) if where == TENSORRT else None
            if reason:
                skipped.append(_skipped(artifact, f"{name} on {where}", reason))
            else:
                plan.append(_Run(artifact, name, where, optional=where == TENSORRT))
    formats = sorted({artifact.format for artifact in artifacts})
    idle = [name for name in names if name != ALL and not set(formats) & set(RUNTIMES[name].reads)]
    if idle:
        raise UsageError(
            f"--runtime {', '.join(idle)}: reads no artifact of this directory, only {', '.join(formats)} here"
        )
    if not plan:
        raise UnavailableError(f"no runtime for {', '.join(formats)} here\n{'; '.join(skipped)[:300]}")
    return plan, skipped


def _skipped(artifact: Artifact, runtime: str, reason: object) -> str:
    return f"{artifact.format} in {runtime}: not run: {' '.join(str(reason).split())}"


def _require(name: str, device: str) -> None:
    reason = RUNTIMES[name].unavailable(device)
    if reason:
        raise UnavailableError(f"{name} on {device}: {reason}")


def _row(
    directory: Path,
    run: _Run,
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    golden: Golden,
    outputs: Mapping[str, TensorSpec],
    tolerances: Mapping[str, Tolerance],
) -> tuple[Comparison, tuple[Control, ...], Arrays]:
    by_batch, answer = run_artifact(directory, run.artifact, run.runtime, run.device, *specs)
    results = _results(golden, by_batch, outputs, tolerances)
    diagnosis = None
    if run.artifact.format in READ_IN and not all(each.passed for each in results):
        diagnosis = explain(directory, run.artifact, specs, run.runtime, run.device)
    facts: dict[str, Any] = {
        **answer["facts"],
        "batches": answer["batches"],
        "load_seconds": answer["load_seconds"],
        "export_seconds": run.artifact.seconds,
    }
    row = Comparison(
        subject=run.artifact.format,
        runtime=run.runtime,
        device=run.device,
        precision=run.artifact.precision,
        outputs=results,
        samples=golden.samples,
        seconds=answer["latency_seconds"],
        size=run.artifact.size,
        diagnosis=diagnosis,
        facts=facts,
        points=pick(golden, by_batch, outputs, results),
    )
    largest = by_batch[max(by_batch)]
    rolled = [each for each in compare.check_controls(golden, largest, outputs, tolerances) if each.name == _ROLLED]
    name = f"{run.artifact.format} in {run.runtime}: another sample"
    return row, tuple(replace(each, name=name) for each in rolled), largest


_ROLLED = "artifact-another-sample"


def _results(
    golden: Golden,
    by_batch: Mapping[int, Arrays],
    specs: Mapping[str, TensorSpec],
    tolerances: Mapping[str, Tolerance],
) -> tuple[OutputResult, ...]:
    """One result for each output: the worst of all batch sizes."""
    worst: dict[str, OutputResult] = {}
    for batch, actual in by_batch.items():
        for result in compare.compare_outputs(golden.references, actual, specs, tolerances):
            if not result.passed and len(by_batch) > 1:
                result = replace(result, reason=f"{result.reason or 'beyond the tolerance'} (batch {batch})")
            known = worst.get(result.output)
            if known is None or _badness(result) > _badness(known):
                worst[result.output] = result
    return tuple(worst.values())


def _badness(result: OutputResult) -> tuple[bool, float]:
    return not result.passed, float("inf") if result.relative_l2 is None else result.relative_l2
