"""Artifacts on disk -> rows, controls and a verdict: runs every artifact in its runtimes, each in a child process.

Combines `converter.proof.plan` (what to run), `converter.proof.isolate` (runs it) and `converter.proof.comparison`.
Used by the export right after writing and by `cnnexport verify`; needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.core.clock import Clock
from converter.core.data import Arrays, Artifact, Golden, Interface, TensorSpec, Verdict
from converter.core.errors import ConversionError, InputError, UnavailableError
from converter.core.results import Comparison, Control, OutputResult, Stage, Tolerance
from converter.proof.comparison import compare_outputs, separation
from converter.proof.controls import ARTIFACT_CONTROL, check_controls
from converter.proof.diagnosis import DIAGNOSIS_RUNTIMES, explain
from converter.proof.error_chain import stages
from converter.proof.isolate import run_artifact
from converter.proof.plan import ProofOptions, Run, plan, skipped
from converter.proof.points import pick
from converter.proof.protocol import Subject
from converter.proof.tolerance import tolerances
from converter.proof.verdict import judge

Key = tuple[str, str, str]
"""Format, runtime and device of a row."""


@dataclass(frozen=True)
class Exported:
    """The export to prove: artifacts in `directory`, with the Keras model's interface and golden arrays.

    `rewritten` are the outputs of the rewritten Keras model, compared in the first row (None: no such row). `precision`
    is "float16" if Keras computed the golden outputs in half precision.
    """

    directory: Path
    artifacts: tuple[Artifact, ...]
    interface: Interface
    golden: Golden
    precision: str = "float32"
    rewritten: Arrays | None = None


@dataclass(frozen=True)
class Evidence:
    """The result of a proof.

    `tolerances` are those of float32; rows of another precision have theirs in `facts`. `skipped` has a sentence with
    the reason for each runtime that "all" includes and that was not run.
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
class _Row:
    """A row, the outputs that it was computed from (of the largest batch), and the control made of these outputs."""

    comparison: Comparison
    controls: tuple[Control, ...]
    outputs: Arrays


def prove(exported: Exported, options: ProofOptions, clock: Clock) -> Evidence:
    """Run every artifact in the runtimes of `options` and compare its outputs with the golden arrays.

    With "all" among the runtimes, a runtime that is missing or cannot run the model is left out and listed in
    `skipped`, except the first one of each format. Raises UnavailableError if a requested runtime is missing,
    UsageError if it reads none of the artifacts, and the errors of `converter.proof.isolate`.
    """
    runs, left_out = plan(exported.artifacts, options)
    golden, specs = exported.golden, exported.interface.by_output
    judged: list[tuple[Verdict, tuple[str, ...]]] = []
    rows: list[Comparison] = []
    controls: list[Control] = []
    outputs: dict[Key, Arrays] = {}
    apart = separation(golden.references, specs)
    plain = _tolerances(exported, options, tf32=False)
    for tf32 in (False, True):
        own = [run for run in runs if (run.device == "cuda-tf32") is tf32]
        if tf32 and not own:
            continue
        bounds = _tolerances(exported, options, tf32=True) if tf32 else plain
        found = list(check_controls(golden, None, specs, bounds))
        group = [] if tf32 or exported.rewritten is None else [_rewritten_row(exported, bounds)]
        for run in own:
            on = "" if run.device == "cpu" else f" on {run.device}"
            with clock(f"verify {run.artifact.format} in {run.runtime}{on}"):
                try:
                    row = _row(exported, run, bounds)
                except (UnavailableError, ConversionError, InputError) as error:
                    if not run.optional:
                        raise
                    left_out.append(skipped(run.artifact, run.runtime, error))
                    continue
            facts = {**row.comparison.facts, "tolerance": bounds} if tf32 else row.comparison.facts
            group.append(replace(row.comparison, facts=facts))
            found.extend(row.controls)
            outputs[run.artifact.format, run.runtime, run.device] = row.outputs
        judged.append(judge(group, found, apart, bounds))
        rows.extend(group)
        controls.extend(replace(each, name=f"{each.name} (TF32)") if tf32 else each for each in found)
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    causes = (f"{row.subject} in {row.runtime} on {row.device}: {row.diagnosis.text}" for row in rows if row.diagnosis)
    return Evidence(
        rows=tuple(rows),
        controls=tuple(controls),
        tolerances=plain,
        separation=apart,
        verdict=min((verdict for verdict, _ in judged), key=order.index),
        reasons=(*(reason for _, each in judged for reason in each), *causes),
        skipped=tuple(left_out),
        stages=stages(golden, exported.rewritten, outputs, specs),
    )


def _tolerances(exported: Exported, options: ProofOptions, tf32: bool) -> dict[str, Tolerance]:
    golden, specs = exported.golden, exported.interface.by_output
    precision, chosen = exported.precision, options.tolerance
    return tolerances(golden.references, golden.exact, specs, precision, tf32=tf32, chosen=chosen)


def _rewritten_row(exported: Exported, bounds: Mapping[str, Tolerance]) -> Comparison:
    """The row of the rewritten Keras model, whose outputs were predicted before it was traced."""
    golden, specs = exported.golden, exported.interface.by_output
    outputs = {0: exported.rewritten or {}}
    results = _results(golden, outputs, specs, bounds)
    row = Comparison("keras-rewritten", "keras", "cpu", "float32", results, golden.samples)
    return replace(row, points=pick(golden, outputs, specs, results))


def _row(exported: Exported, run: Run, bounds: Mapping[str, Tolerance]) -> _Row:
    golden, specs, artifact = exported.golden, exported.interface.by_output, run.artifact
    subject = Subject(exported.directory, artifact, exported.interface, run.runtime, run.device)
    by_batch, answer = run_artifact(subject)
    results = _results(golden, by_batch, specs, bounds)
    failed = not all(each.passed for each in results)
    row = Comparison(
        subject=artifact.format,
        runtime=run.runtime,
        device=run.device,
        precision=artifact.precision,
        outputs=results,
        samples=golden.samples,
        seconds=answer.latency_seconds,
        size=artifact.size,
        diagnosis=explain(subject) if failed and artifact.format in DIAGNOSIS_RUNTIMES else None,
        facts={
            **answer.facts,
            "batches": list(answer.batches),
            "load_seconds": answer.load_seconds,
            "export_seconds": artifact.seconds,
        },
        points=pick(golden, by_batch, specs, results),
    )
    largest = by_batch[max(by_batch)]
    name = f"{artifact.format} in {run.runtime}: another sample"
    rolled = (each for each in check_controls(golden, largest, specs, bounds) if each.name == ARTIFACT_CONTROL)
    return _Row(row, tuple(replace(each, name=name) for each in rolled), largest)


def _results(
    golden: Golden,
    by_batch: Mapping[int, Arrays],
    specs: Mapping[str, TensorSpec],
    tolerances: Mapping[str, Tolerance],
) -> tuple[OutputResult, ...]:
    """One result for each output: the worst over all batch sizes."""
    worst: dict[str, OutputResult] = {}
    for batch, actual in by_batch.items():
        for result in compare_outputs(golden.references, actual, specs, tolerances):
            if not result.passed and len(by_batch) > 1:
                result = replace(result, reason=f"{result.reason or 'above the tolerance'} (batch {batch})")
            known = worst.get(result.output)
            if known is None or _severity(result) > _severity(known):
                worst[result.output] = result
    return tuple(worst.values())


def _severity(result: OutputResult) -> tuple[bool, float]:
    return not result.passed, float("inf") if result.relative_l2 is None else result.relative_l2
