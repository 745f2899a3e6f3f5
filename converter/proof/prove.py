"""Artifacts on disk -> rows, controls and a verdict: runs every artifact in its runtimes, each in a child process.

Combines `converter.proof.plan` (what to run), `converter.proof.isolate` (runs it) and `converter.proof.comparison`.
Used by the export right after writing and by `cnnexport verify`; needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.bundle.manifest import GOLDEN
from converter.core.clock import Clock
from converter.core.data import Arrays, Artifact, Golden, Interface, Verdict
from converter.core.errors import ChildError, ConversionError, InputError, UnavailableError
from converter.core.results import Comparison, Control, Stage, Tolerance
from converter.proof.bounds import Bounds, larger, results_of
from converter.proof.comparison import compare_outputs, separation
from converter.proof.controls import check_controls, check_shifted
from converter.proof.diagnosis import DIAGNOSIS_RUNTIMES, explain
from converter.proof.error_chain import stages
from converter.proof.isolate import Ran, run_artifact
from converter.proof.measures import Measures
from converter.proof.plan import ProofOptions, Run, plan, skipped
from converter.proof.points import pick
from converter.proof.precisions import FLOAT32, controls_of, over_all, precise, verdict_of
from converter.proof.protocol import Subject
from converter.proof.tf32 import with_tf32_noise
from converter.proof.tolerance import tolerances
from converter.proof.verdict import beside_the_gpu, judge, notes
from converter.runtimes import CUDA_TF32

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
    those of the golden arrays if they are known already. `arrays` is their file if it is not golden.npz.
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
    arrays: Path | None = None

    def known(self, options: ProofOptions) -> Measures | None:
        """What was measured in the golden arrays already, if it is what a proof with `options` needs."""
        found = self.measures
        if found is None or options.tolerance is not None:
            return None
        return found if found.fit(self.golden, self.interface.by_output, self.precision) else None


@dataclass(frozen=True)
class Evidence:
    """The result of a proof.

    `tolerances` are those of float32; rows of TF32 and of another precision have theirs in `facts`. `notes` are
    sentences: the reason for each runtime that "all" includes and that was not run, and what the proof does not show.
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
        plain = _bounds(exported, options, tf32=False)
    for tf32 in (False, True):
        own = [run for run in runs if (run.device == CUDA_TF32) is tf32 and run.artifact.precision == FLOAT32]
        if tf32 and not own:
            continue
        bounds = plain
        if tf32:
            with clock("error of TF32"):
                try:
                    bounds = _bounds(_as_tf32(exported, own[0]), options, tf32=True)
                except (ConversionError, InputError, ChildError) as error:  # it does not run on the CPU either
                    group = [_failed(exported, run, error).comparison for run in own]
                    judged.append(judge(group, (), apart, plain.whole))
                    rows.extend(group)
                    continue
        with clock("controls"):
            found = list(known.controls if known and not tf32 else check_controls(golden, specs, bounds.whole))
            group = [] if tf32 else _rows_of_keras(exported, bounds)
        for run in own:
            row = _tried(exported, run, bounds, clock, left_out)
            if row is None:
                continue
            facts = {**row.comparison.facts, "tolerance": bounds.whole} if tf32 else row.comparison.facts
            group.append(replace(row.comparison, facts=facts))
            found.extend(row.controls)
            outputs[run.artifact.format, run.runtime, run.device] = row.outputs
        if group or all(run.artifact.precision == FLOAT32 for run in runs):
            judged.append(judge(group, found, apart, bounds.whole))
        rows.extend(group)
        controls.extend(replace(each, name=f"{each.name} (TF32)") if tf32 else each for each in found)
    for run in [run for run in runs if run.artifact.precision != FLOAT32]:
        one = _judged_precision(exported, run, clock, left_out)
        if one is not None:
            judged.append(one[0])
            rows.append(one[1].comparison)
            controls.extend(each for each in one[1].controls if each not in controls)
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
        notes=(*left_out, *mixed, *beside_the_gpu(rows), *notes(controls, apart, plain.whole)),
        stages=stages(golden, exported.rewritten, outputs, specs),
    )


def _tried(exported: Exported, run: Run, bounds: Bounds, clock: Clock, left_out: list[str]) -> _Row | None:
    """The row of one run, a failed one if it gave no outputs; None if it was optional and is left out."""
    on = "" if run.device == "cpu" else f" on {run.device}"
    precision = "" if run.artifact.precision == FLOAT32 else f" {run.artifact.precision}"
    with clock(f"verify {run.artifact.format}{precision} in {run.runtime}{on}"):
        try:
            return _row(exported, run, bounds)
        except (UnavailableError, ConversionError, InputError, ChildError) as error:
            if run.optional and not isinstance(error, ChildError):
                left_out.append(skipped(run.artifact, run.runtime, error))
                return None
            if isinstance(error, UnavailableError):
                raise
            return _failed(exported, run, error)


def _judged_precision(
    exported: Exported, run: Run, clock: Clock, left_out: list[str]
) -> tuple[tuple[Verdict, tuple[str, ...]], _Row] | None:
    """The verdict and the row of an artifact in another precision than float32, with its controls."""
    interface, default = exported.interface, exported.directory / GOLDEN
    found = precise(exported.directory, run.artifact, interface, exported.golden, default)
    own = replace(exported, golden=found.golden, arrays=found.path)
    row = _tried(own, run, Bounds(found.tolerances, found.tolerances), clock, left_out)
    if row is None:
        return None
    controls = controls_of(found, run, interface.by_output, row.outputs)
    facts = {**row.comparison.facts, "tolerance": found.tolerances}
    comparison = over_all(found, replace(row.comparison, facts=facts), row.outputs, interface.by_output)
    row = replace(row, comparison=comparison, controls=tuple(controls))
    return verdict_of(found, row.comparison, controls), row


def _subject(exported: Exported, run: Run) -> Subject:
    return Subject(exported.directory, run.artifact, exported.interface, run.runtime, run.device, exported.arrays)


def _as_tf32(exported: Exported, run: Run) -> Exported:
    """What was exported, with the noise of TF32 in its golden arrays."""
    return replace(exported, golden=with_tf32_noise(exported.golden, _subject(exported, run)))


def _bounds(exported: Exported, options: ProofOptions, tf32: bool) -> Bounds:
    """The tolerances of an export."""
    specs, other = exported.interface.by_output, exported.golden.resized
    precision, chosen = exported.precision, options.tolerance
    known = None if tf32 else exported.known(options)
    whole = known.tolerances if known else tolerances(exported.golden, specs, precision, tf32=tf32, chosen=chosen)
    if other is None:
        return Bounds(whole, {})
    resized = tolerances(other, specs, precision, tf32=tf32, chosen=chosen)
    return Bounds(whole, {name: larger(bound, whole[name]) for name, bound in resized.items()})


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
        results = results_of(golden, Ran(outputs, {}), specs, limits)
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
    subject = _subject(exported, run)
    ran = run_artifact(subject, (golden.samples,) if exported.mixes else (1, 3, golden.samples))
    answer = ran.answer
    assert answer is not None
    results = results_of(golden, ran, specs, bounds)
    failed, full = not all(each.passed for each in results), artifact.precision == FLOAT32
    explained = failed and full and artifact.format in DIAGNOSIS_RUNTIMES and run.device != CUDA_TF32
    row = Comparison(
        subject=artifact.format,
        runtime=run.runtime,
        device=run.device,
        precision=artifact.precision,
        outputs=results,
        samples=golden.samples,
        seconds=answer.latency_seconds,
        size=artifact.size,
        diagnosis=explain(subject) if explained else None,
        facts={
            **answer.facts,
            "batches": list(answer.batches),
            "load_seconds": answer.load_seconds,
            "export_seconds": artifact.seconds,
        },
        points=pick(golden, ran.by_batch, specs, results),
    )
    if not full:
        return _Row(row, (), ran.largest)
    control = check_shifted(golden, ran.largest, specs, bounds.whole)
    named = replace(control, name=f"{artifact.format} in {run.runtime}: {control.name}")
    return _Row(row, (named,), ran.largest)
