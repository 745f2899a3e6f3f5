"""int8: one calibration and one plan, the files of both formats, and the arrays that prove them.

The samples that prove are not those that calibrate. The reference is the float32 file, which was proven against Keras;
what int8 may differ by is measured: the ONNX file run without optimizations computes the planned rounding in float32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.bundle.golden import write_golden
from converter.core.data import Array, Arrays, Artifact, Golden
from converter.core.errors import ConversionError, UsageError
from converter.core.foreign import Facts
from converter.core.precision import AUTO
from converter.core.processor import processor
from converter.quantize import faults, sensitivity
from converter.quantize.agreement import Agreement, agreement
from converter.quantize.calibration import Calibration, faint
from converter.quantize.kernels import kernels_of, saturation
from converter.quantize.observe import RUNTIMES_OF, Halves, observe, whole
from converter.quantize.plan import Operator, Plan, Range, plan
from converter.quantize.ranges import Seen, range_of, spread
from converter.quantize.trial import error, outputs_of
from converter.quantize.work import INT8, Made, Work, Written, recorded

GOLDEN_INT8 = "golden.int8.npz"
SIMULATION = "onnxruntime-noopt"


@dataclass(frozen=True)
class Side:
    """One format: its float32 artifact, its operators, and the range of each tensor.

    `twins` has the tensor of the first format that holds the same values, whose range its tensor has.
    """

    artifact: Artifact
    steps: Sequence[Operator]
    ranges: Mapping[str, Range]
    twins: Mapping[str, str]

    @property
    def tensors(self) -> set[str]:
        """The tensors that its operators read and write."""
        return tensors_of(self.steps)


def write_int8(work: Work, calibration: Calibration, noise: Calibration) -> Made:
    """Write model.int8 in every format of `work`, and golden.int8.npz; `noise` is for the control.

    Raises ConversionError for a model without anything to compute in int8, UsageError for a layer to keep that the
    model does not have.
    """
    started = time.perf_counter()
    steps, failures = _described(work)
    work = replace(work, artifacts=tuple(each for each in work.artifacts if each.format in steps))
    _require_layers(work, steps)
    sides, halves = _observed(work, steps, calibration.calibrating)
    first = sides[0]
    references = outputs_of(
        first.artifact, [work.source(first.artifact)], RUNTIMES_OF[first.artifact.format], calibration.proving
    )[0]
    keep = tuple(work.options.keep_float)
    measured: tuple[Facts, ...] = ()
    if keep == (AUTO,):
        keep, measured = sensitivity.chosen(work, first, calibration.proving, references)
    plans = [plan(side.steps, side.ranges, keep) for side in sides]
    _require_kernels(first, plans[0])
    shared_seconds = (time.perf_counter() - started) / len(sides)
    made, saturations = [], []
    for side, own in zip(sides, plans, strict=True):
        began = time.perf_counter()
        kernels = kernels_of(side.steps, own, work.options.target)
        target = work.target(side.artifact, "int8")
        result = INT8[side.artifact.format].write(work.source(side.artifact), target, side.steps, own, kernels)
        files = result[0] if side.artifact.format == "onnx" else [target]
        saturations.append(saturation(side.steps, own, kernels))
        made.append((side, own, Written(files, result[1], shared_seconds + time.perf_counter() - began)))
    base: Facts = {
        "golden": GOLDEN_INT8,
        "calibration": calibration.facts(work.options.method),
        "sample_hashes": list(calibration.hashes),
        "noise": _noise(work, made, calibration.proving, references),
        "spread": _spread(halves, work),
        "target": work.options.target,
        "processor": processor(),
        "sensitivity": list(measured),
    }
    artifacts = tuple(
        recorded(
            side.artifact,
            "int8",
            written,
            {
                **base,
                "kept_float": list(own.kept),
                "saturation": found,
                "scales": {"tensors": len(side.tensors), "of_the_other_format": len(side.twins)},
            },
        )
        for (side, own, written), found in zip(made, saturations, strict=True)
    )
    alone = replace(work, artifacts=(first.artifact,))
    by_noise = _observed(alone, steps, faint(noise))[0][0]
    controls = faults.controls(work, first, plans[0], calibration.proving, by_noise)
    write_golden(work.directory / GOLDEN_INT8, Golden(calibration.proving, references, {}, controls))
    said_of_both = _agreement(work, artifacts, sides[-1].twins, calibration.proving)
    said = _sentences(base, plans, saturations[0], artifacts)
    return Made(artifacts, (*said, *said_of_both), failures)


def _described(work: Work) -> tuple[dict[str, Sequence[Operator]], tuple[str, ...]]:
    """The operators of each format, and why a format's file cannot be edited. Raises ConversionError if none can."""
    steps: dict[str, Sequence[Operator]] = {}
    failures = []
    for artifact in work.artifacts:
        try:
            steps[artifact.format] = INT8[artifact.format].described(work.source(artifact), work.layers)
        except ConversionError as error:
            failures.append(str(error))
    if not steps:
        raise ConversionError("\n".join(failures))
    return steps, tuple(failures)


def tensors_of(steps: Sequence[Operator]) -> set[str]:
    """The tensors that operators read and write."""
    return {name for step in steps for name in (*step.inputs, *step.outputs)}


def _observed(
    work: Work, steps: Mapping[str, Sequence[Operator]], inputs: Arrays
) -> tuple[list[Side], dict[str, Halves]]:
    """The formats with the ranges of their tensors, and what was seen of those of the first.

    A tensor of the second format that is one of the first has that one's range.
    """
    method = work.options.method
    sides: list[Side] = []
    known: dict[str, Seen] = {}
    halves: dict[str, Halves] = {}
    for artifact in work.artifacts:
        wanted = tensors_of(steps[artifact.format])
        seen = observe(work.directory, artifact, inputs, wanted, histograms=method != "minmax")
        both = whole(seen)
        if not sides:
            known, halves = both, seen
        alike = {name: next((key for key, one in known.items() if one.alike(each)), "") for name, each in both.items()}
        twins = {name: key for name, key in alike.items() if key}
        ranges = {name: range_of(known[twins[name]] if name in twins else each, method) for name, each in both.items()}
        sides.append(Side(artifact, steps[artifact.format], ranges, twins))
    return sides, halves


def _noise(
    work: Work, made: Sequence[tuple[Side, Plan, Written]], inputs: Arrays, references: Arrays
) -> Mapping[str, tuple[float, float]]:
    """What the planned rounding does to the outputs, computed in float32; empty where ONNX is not written."""
    for side, _, written in made:
        if side.artifact.format == "onnx":
            outputs = outputs_of(side.artifact, list(written.files[:1]), SIMULATION, inputs)[0]
            return error(work.interface.by_output, references, outputs)
    return {}


def _spread(halves: Mapping[str, Halves], work: Work) -> Facts:
    """How far the ranges from two disjoint halves of the samples are apart: the median, the largest and where."""
    method = work.options.method
    found = {name: spread(range_of(one, method), range_of(two, method)) for name, (one, two) in halves.items()}
    if not found:
        return {}
    worst = max(found, key=lambda name: found[name])
    return {"median": statistics.median(found.values()), "largest": found[worst], "tensor": worst}


def _agreement(work: Work, artifacts: Sequence[Artifact], twins: Mapping[str, str], inputs: Arrays) -> tuple[str, ...]:
    """How far the int8 files of two formats agree on the samples that prove, as sentences."""
    if len(artifacts) < 2:
        return ()
    inside = agreement(work.directory, artifacts, twins, inputs)
    sides = [outputs_of(each, [work.directory / each.path], RUNTIMES_OF[each.format], inputs)[0] for each in artifacts]
    found = []
    for name in work.interface.by_output:
        one, other = (side[name] for side in sides)
        equal = float(np.mean(one == other))
        gap = float(np.abs(np.asarray(one, np.float64) - other).max())
        found.append(
            f"{name}: {equal:.1%} of the values are equal, the largest difference is {gap:.2g}{_winners(one, other)}"
        )
    names = " and ".join(each.path for each in artifacts)
    where = " and ".join(RUNTIMES_OF[each.format] for each in artifacts)
    return (f"{names} in {where}: {'; '.join(found)}", *_inside(names, inside))


def _inside(names: str, found: Agreement | None) -> tuple[str, ...]:
    """How far the stored tensors agree, as a sentence; nothing if that could not be seen."""
    if found is None:
        return ()
    said = f"{names}: {found.equal} of {found.tensors} tensors are stored bit for bit alike"
    first = (
        f"; the first that is not is {found.first}, {found.share:.2%} of its values are equal" if found.first else ""
    )
    return (said + first,)


def _winners(one: Array, other: Array) -> str:
    if one.ndim != 2 or one.shape[1] < 2:
        return ""
    return f", the winner is the same in {int(np.sum(one.argmax(1) == other.argmax(1)))} of {len(one)} samples"


def _sentences(base: Facts, plans: Sequence[Plan], found: Facts, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """What a reader of the report should know of the int8 files."""
    names = " and ".join(each.path for each in artifacts)
    unsafe = found["can_saturate"]
    listed = ", ".join(unsafe[:4]) + (f" and {len(unsafe) - 4} more" if len(unsafe) > 4 else "")
    remedy = f" ({listed}); --int8-target any avoids it" if unsafe else ""
    spread_of = base["spread"]
    return (
        f"{names}: {found['verdict']}{remedy}; {base['processor']}",
        *(f"{each.path}: in float are {_kept(own)}" for each, own in zip(artifacts, plans, strict=True) if own.kept),
        f"{names}: ranges from two halves of the calibration samples differ by {spread_of['median']:.1%} in the "
        f"median, by {spread_of['largest']:.1%} at most ({spread_of['tensor']})",
    )


def _kept(own: Plan) -> str:
    """The operators that stay in float, with their reasons, the first six."""
    listed = "; ".join(f"{each.operator}: {each.reason}" for each in own.kept[:6])
    return listed + (f"; and {len(own.kept) - 6} more" if len(own.kept) > 6 else "")


def _require_layers(work: Work, steps: Mapping[str, Sequence[Operator]]) -> None:
    """Raise UsageError for a layer to keep in float that the model does not have."""
    if work.options.keep_float == (AUTO,):
        return
    known = {*work.layers, *(step.layer for each in steps.values() for step in each)}
    for name in work.options.keep_float:
        if name not in known:
            some = ", ".join(sorted(work.layers)[:8])
            raise UsageError(f"--keep-float {name}: the model has no such layer\nits layers are {some}, …")


def _require_kernels(side: Side, own: Plan) -> None:
    if not any(side.steps[index].kernel for index in own.int8):
        reasons = "; ".join(f"{each.operator}: {each.reason}" for each in own.kept[:3])
        raise ConversionError(
            f"{side.artifact.path}: no convolution and no dense layer can compute in int8 ({reasons})\nexport float32"
        )
