"""Artifacts on disk -> rows, controls and a verdict: runs every artifact in its runtimes, each in a child process.

Combines `converter.proof.plan` (what to run), `converter.proof.isolate` (runs it) and `converter.proof.comparison`.
Used by the export right after writing and by `cnnexport verify`; needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from converter.bundle.manifest import GOLDEN
from converter.core.clock import Clock
from converter.core.data import Arrays, Verdict
from converter.core.errors import ChildError, ConversionError, InputError
from converter.core.results import Comparison, Control, Stage, Tolerance
from converter.core.turn import Turn, turns
from converter.proof.ahead import Ahead
from converter.proof.bounds import Bounds, larger, results_of
from converter.proof.comparison import compare_outputs, separation
from converter.proof.controls import check_controls
from converter.proof.error_chain import stages
from converter.proof.exported import Exported
from converter.proof.isolate import Ran
from converter.proof.plan import ProofOptions, Run, plan
from converter.proof.points import pick
from converter.proof.precisions import FLOAT32, controls_of, over_all, precise, verdict_of
from converter.proof.rows import Row, Rows, failed, subject_of
from converter.proof.tf32 import with_tf32_noise
from converter.proof.tolerance import tolerances
from converter.proof.verdict import beside_the_gpu, judge, notes
from converter.runtimes import CUDA_TF32

Key = tuple[str, str, str]
"""Format, runtime and device of a row."""


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


def prove(
    exported: Exported, options: ProofOptions, clock: Clock, turn: Turn | None = None, ahead: Ahead | None = None
) -> Evidence:
    """Run every artifact in the runtimes of `options` and compare its outputs with the golden arrays.

    The first row compares Keras itself with float64. With "all" among the runtimes, a runtime that is missing or cannot
    run the model is left out and listed in `notes`, except the first one of each format. A runtime that crashes, runs
    out of time or refuses a file is a failed row. `turn` is that of work which the caller does meanwhile; `ahead` may
    have run artifacts already. Raises UnavailableError if a requested runtime is missing, and UsageError if it reads
    none of the artifacts.
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
    with ExitStack() as stack:
        turn = turn or stack.enter_context(turns())
        making = stack.enter_context(Rows(exported, runs, clock, turn, ahead))
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
                        group = [failed(exported, run, error).comparison for run in own]
                        judged.append(judge(group, (), apart, plain.whole))
                        rows.extend(group)
                        continue
            begun = making.begin([(exported, run, bounds) for run in own])
            with clock("controls"), turn.working():
                found = list(known.controls if known and not tf32 else check_controls(golden, specs, bounds.whole))
                group = [] if tf32 else _rows_of_keras(exported, bounds)
            for run, pending in zip(own, begun, strict=True):
                row = pending.result()
                if isinstance(row, str):
                    left_out.append(row)
                    continue
                facts = {**row.comparison.facts, "tolerance": bounds.whole} if tf32 else row.comparison.facts
                group.append(replace(row.comparison, facts=facts))
                found.extend(row.controls)
                outputs[run.artifact.format, run.runtime, run.device] = row.outputs
            if group or all(run.artifact.precision == FLOAT32 for run in runs):
                judged.append(judge(group, found, apart, bounds.whole))
            rows.extend(group)
            controls.extend(replace(each, name=f"{each.name} (TF32)") if tf32 else each for each in found)
        for one in _precisions(exported, runs, making):
            if isinstance(one, str):
                left_out.append(one)
                continue
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


def _precisions(
    exported: Exported, runs: Sequence[Run], making: Rows
) -> Iterator[tuple[tuple[Verdict, tuple[str, ...]], Row] | str]:
    """The verdict and the row of each artifact in another precision than float32, with its controls, or a note."""
    interface, default = exported.interface, exported.directory / GOLDEN
    others = [run for run in runs if run.artifact.precision != FLOAT32]
    wanted = [precise(exported.directory, run.artifact, interface, exported.golden, default) for run in others]
    jobs = [
        (replace(exported, golden=each.golden, arrays=each.path), run, Bounds(each.tolerances, each.tolerances))
        for run, each in zip(others, wanted, strict=True)
    ]
    for run, found, pending in zip(others, wanted, making.begin(jobs), strict=True):
        row = pending.result()
        if isinstance(row, str):
            yield row
            continue
        controls = controls_of(found, run, interface.by_output, row.outputs)
        facts = {**row.comparison.facts, "tolerance": found.tolerances}
        comparison = over_all(found, replace(row.comparison, facts=facts), row.outputs, interface.by_output)
        row = replace(row, comparison=comparison, controls=tuple(controls))
        yield verdict_of(found, row.comparison, controls), row


def _as_tf32(exported: Exported, run: Run) -> Exported:
    """What was exported, with the noise of TF32 in its golden arrays."""
    return replace(exported, golden=with_tf32_noise(exported.golden, subject_of(exported, run)))


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
