"""Artifacts on disk -> rows, controls and a verdict: runs every artifact in its runtimes, each in a child process.

Combines `converter.proof.plan` (what to run), `converter.proof.isolate` (runs it) and `converter.proof.comparison`.
Used by the export right after writing and by `cnnexport verify`; needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.core.clock import Clock
from converter.core.data import Arrays, Artifact, Golden, Interface, TensorSpec, Verdict, first_samples
from converter.core.errors import ChildError, ConversionError, InputError, UnavailableError
from converter.core.results import Comparison, Control, OutputResult, Stage, Tolerance
from converter.proof.comparison import compare_outputs, separation
from converter.proof.controls import check_controls, check_shifted
from converter.proof.diagnosis import DIAGNOSIS_RUNTIMES, explain
from converter.proof.error_chain import stages
from converter.proof.isolate import Ran, run_artifact
from converter.proof.measures import Measures
from converter.proof.plan import ProofOptions, Run, plan, skipped
from converter.proof.points import pick
from converter.proof.protocol import Subject, samples_at
from converter.proof.tolerance import tolerances
from converter.proof.verdict import judge, notes

Key = tuple[str, str, str]
"""Format, runtime and device of a row."""


@dataclass(frozen=True)
class Exported:
    """The export to prove: artifacts in `directory`, with the Keras model's interface and golden arrays.

    `rewritten` are the outputs of the rewritten Keras model, compared in a row of their own (None: no such row).
    `precision` is "float16" if Keras computed the golden outputs in half precision. If the golden outputs are float64's
    because Keras computes in half precision (`half`), `keras` are Keras's own, None if they are not known any more; of
    these models `rewritten` are in half precision too.
    `mixes`: a sample's output depends on its whole batch, so that only the whole batch can be compared. `measures` are
    those of the golden arrays if they are known already.
    """

    directory: Path
    artifacts: tuple[Artifact, ...]
    interface: Interface
    golden: Golden
    precision: str = "float32"
    rewritten: Arrays | None = None
    keras: Arrays | None = None
    half: bool = False
    mixes: bool = False
    measures: Measures | None = None

    def known(self, options: ProofOptions) -> Measures | None:
        """What was measured in the golden arrays already, if it is what a proof with `options` needs."""
        found = self.measures
        if found is None or options.tolerance is not None:
            return None
        return found if found.fit(self.golden, self.interface.by_output, self.precision) else None


@dataclass(frozen=True)
class Evidence:
    """The result of a proof.

    `tolerances` are those of float32; rows of another precision have theirs in `facts`. `notes` are sentences: the
    reason for each runtime that "all" includes and that was not run, and what the proof does not show.
    """

    rows: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    tolerances: Mapping[str, Tolerance]
    separation: Mapping[str, float]
    verdict: Verdict
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class _Row:
    """A row, the outputs that it was computed from (of the largest batch), and the control made of these outputs."""

    comparison: Comparison
    controls: tuple[Control, ...]
    outputs: Arrays


def prove(exported: Exported, options: ProofOptions, clock: Clock) -> Evidence:
    """Run every artifact in the runtimes of `options` and compare its outputs with the golden arrays.

    The first row compares Keras itself with float64. With "all" among the runtimes, a runtime that is missing or cannot
    run the model is left out and listed in `notes`, except the first one of each format. A runtime that crashes, runs
    out of time or refuses a file is a failed row. Raises UnavailableError if a requested runtime is missing, and
    UsageError if it reads none of the artifacts.
    """
    runs, left_out = plan(exported.artifacts, options)
    golden, specs = exported.golden, exported.interface.by_output
    judged: list[tuple[Verdict, tuple[str, ...]]] = []
    rows: list[Comparison] = []
    controls: list[Control] = []
    outputs: dict[Key, Arrays] = {}
    with clock("controls"):
        known = exported.known(options)
        apart = known.separation if known else separation(golden.references, specs)
        plain = Bounds.of(exported, options, tf32=False)
    for tf32 in (False, True):
        own = [run for run in runs if (run.device == "cuda-tf32") is tf32]
        if tf32 and not own:
            continue
        bounds = Bounds.of(exported, options, tf32=True) if tf32 else plain
        with clock("controls"):
            found = list(known.controls if known and not tf32 else check_controls(golden, specs, bounds.whole))
            group = [] if tf32 else _rows_of_keras(exported, bounds)
        for run in own:
            on = "" if run.device == "cpu" else f" on {run.device}"
            with clock(f"verify {run.artifact.format} in {run.runtime}{on}"):
                try:
                    row = _row(exported, run, bounds)
                except (UnavailableError, ConversionError, InputError, ChildError) as error:
                    crashed = isinstance(error, ChildError)
                    if run.optional and not crashed:
                        left_out.append(skipped(run.artifact, run.runtime, error))
                        continue
                    if isinstance(error, UnavailableError):
                        raise
                    row = _failed(exported, run, error)
            facts = {**row.comparison.facts, "tolerance": bounds.whole} if tf32 else row.comparison.facts
            group.append(replace(row.comparison, facts=facts))
            found.extend(row.controls)
            outputs[run.artifact.format, run.runtime, run.device] = row.outputs
        judged.append(judge(group, found, apart, bounds.whole))
        rows.extend(group)
        controls.extend(replace(each, name=f"{each.name} (TF32)") if tf32 else each for each in found)
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    causes = (f"{row.subject} in {row.runtime} on {row.device}: {row.diagnosis.text}" for row in rows if row.diagnosis)
    mixed = ("the model mixes the samples of a batch: only the whole batch was compared",) if exported.mixes else ()
    return Evidence(
        rows=tuple(rows),
        controls=tuple(controls),
        tolerances=plain.whole,
        separation=apart,
        verdict=min((verdict for verdict, _ in judged), key=order.index),
        reasons=(*(reason for _, each in judged for reason in each), *causes),
        notes=(*left_out, *mixed, *notes(controls, apart, plain.whole)),
        stages=stages(golden, exported.rewritten, outputs, specs),
    )


@dataclass(frozen=True)
class Bounds:
    """The tolerances by output name, for the declared size and for inputs of another size (empty: there are none).

    For another size, where fewer samples are measured, the larger noise of the two sizes counts.
    """

    whole: Mapping[str, Tolerance]
    resized: Mapping[str, Tolerance]

    @classmethod
    def of(cls, exported: Exported, options: ProofOptions, tf32: bool) -> Bounds:
        """The tolerances of an export."""
        specs, other = exported.interface.by_output, exported.golden.resized
        precision, chosen = exported.precision, options.tolerance
        known = None if tf32 else exported.known(options)
        whole = known.tolerances if known else tolerances(exported.golden, specs, precision, tf32=tf32, chosen=chosen)
        if other is None:
            return cls(whole, {})
        resized = tolerances(other, specs, precision, tf32=tf32, chosen=chosen)
        return cls(whole, {name: _larger(bound, whole[name]) for name, bound in resized.items()})


def _larger(bound: Tolerance, other: Tolerance) -> Tolerance:
    """`bound` with the limits of `other` for the whole output where those are larger."""
    limits = max(bound.value, other.value), max(bound.value_max, other.value_max)
    return replace(bound, value=limits[0], value_max=limits[1])


def _rows_of_keras(exported: Exported, bounds: Bounds) -> list[Comparison]:
    """Keras compared with float64, and the rewritten Keras model with Keras."""
    golden, specs, limits, precision = exported.golden, exported.interface.by_output, bounds, "float32"
    if exported.half and exported.keras is not None:
        precision, specs = "float16", {name: replace(spec, activation="linear") for name, spec in specs.items()}
        golden = replace(golden, references=exported.keras, single={}, resized=None)
        limits = Bounds(tolerances(golden, specs, precision), {})
    rows = []
    if golden.exact and (not exported.half or exported.keras is not None):
        count = len(next(iter(golden.exact.values())))
        doubled = {name: np.asarray(array[:count], np.float64) for name, array in golden.references.items()}
        results = compare_outputs(golden.exact, doubled, specs, limits.whole)
        rows.append(Comparison("keras", "keras", "cpu", precision, results, count))
    if exported.rewritten is not None:
        outputs = {golden.samples: exported.rewritten}
        results = _results(golden, Ran(outputs, {}), specs, limits)
        row = Comparison("keras-rewritten", "keras", "cpu", precision, results, golden.samples)
        rows.append(replace(row, points=pick(golden, outputs, specs, results)))
    return rows


def _failed(exported: Exported, run: Run, error: Exception) -> _Row:
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
    return _Row(row, (), {})


def _row(exported: Exported, run: Run, bounds: Bounds) -> _Row:
    golden, specs, artifact = exported.golden, exported.interface.by_output, run.artifact
    subject = Subject(exported.directory, artifact, exported.interface, run.runtime, run.device)
    ran = run_artifact(subject, (golden.samples,) if exported.mixes else (1, 3, golden.samples))
    answer = ran.answer
    assert answer is not None
    results = _results(golden, ran, specs, bounds)
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
        points=pick(golden, ran.by_batch, specs, results),
    )
    control = check_shifted(golden, ran.largest, specs, bounds.whole)
    named = replace(control, name=f"{artifact.format} in {run.runtime}: {control.name}")
    return _Row(row, (named,), ran.largest)


def _results(golden: Golden, ran: Ran, specs: Mapping[str, TensorSpec], bounds: Bounds) -> tuple[OutputResult, ...]:
    """One result for each output: the worst over all batch sizes, and all sizes of the inputs."""
    found: list[tuple[str, OutputResult]] = []
    several = len(ran.by_batch) > 1
    for batch, actual in ran.by_batch.items():
        reference = first_samples(golden.references, samples_at(batch, golden.samples) if several else golden.samples)
        new = {name: spec for name, spec in specs.items() if batch == max(ran.by_batch) or not _same(name, actual, ran)}
        some = {name: array for name, array in actual.items() if name in new or name not in specs}
        results = compare_outputs({name: reference[name] for name in new}, some, new, bounds.whole)
        found += ((f" (batch {batch})" if several else "", result) for result in results)
    for session, actual in ran.resized.items():
        if golden.resized is not None:
            size = " and ".join("x".join(map(str, array.shape[1:])) for array in golden.resized.inputs.values())
            results = compare_outputs(golden.resized.references, actual, specs, bounds.resized)
            found += ((f" (inputs of {size}, {session} session)", result) for result in results)
    worst: dict[str, OutputResult] = {}
    for where, result in found:
        if not result.passed and where:
            result = replace(result, reason=f"{result.reason or 'above the tolerance'}{where}")
        known = worst.get(result.output)
        if known is None or _severity(result) > _severity(known):
            worst[result.output] = result
    return tuple(worst.values())


def _same(name: str, actual: Arrays, ran: Ran) -> bool:
    """Whether an output is bit for bit that of the largest batch, which is compared anyway."""
    if name not in actual or name not in ran.largest:
        return False
    whole = ran.largest[name]
    return actual[name].dtype == whole.dtype and np.array_equal(actual[name], whole[: len(actual[name])])


def _severity(result: OutputResult) -> tuple[bool, float]:
    return not result.passed, float("inf") if result.relative_l2 is None else result.relative_l2
