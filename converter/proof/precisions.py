"""The rows of artifacts in another precision than float32, with a tolerance that follows from that precision.

float16 and int8-weights are compared with Keras's outputs on the golden inputs; the noise is what rounding the weights
does, measured when the file was written. int8 is compared with the float32 file on samples that did not calibrate it;
the noise is what the planned rounding does, computed in float32. The float32 artifacts are proven first: none of these
tolerances would notice a small fault of the graph.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.bundle.golden import read_golden
from converter.core.data import Array, Arrays, Artifact, Golden, Interface, TensorSpec, Verdict, first_samples
from converter.core.distance import FLOAT32 as FLOAT32_GATE
from converter.core.distance import Gate, norms
from converter.core.errors import InputError
from converter.core.foreign import Json
from converter.core.processor import processor
from converter.core.results import Comparison, Control, OutputResult, Tolerance
from converter.proof.comparison import compare_outputs, separation
from converter.proof.domains import pair
from converter.proof.plan import Run
from converter.proof.verdict import judge

FLOAT32 = "float32"
GATES = {
    "float16": Gate(factor=3.0, floor=1e-4, cap=1e-1),
    "int8": Gate(factor=2.0, floor=1e-3, cap=0.25),  # 12 dB for the worst sample; 20 dB over all, see LEAST_SQNR
    "int8-weights": Gate(factor=2.0, floor=1e-4, cap=0.25),
    "int8-dynamic": Gate(factor=4.0, floor=1e-4, cap=0.25),  # the noise is that of the weights alone
}
LEAST_SQNR = 20.0
"""Of int8 and int8-weights over all samples together, in dB: a sample whose logits are small may be worse"""

UNKNOWN = {"float16": 1e-3, "int8": 0.25, "int8-weights": 0.25, "int8-dynamic": 0.25}
"""The tolerance where the noise was not measured"""

BY_NOISE = "int8-calibrated-by-noise"
"""The control that may say nothing: where noise calibrates as well as the samples do"""

AS_GOOD = 1.5
"""Multiple of the noise up to which it does"""


@dataclass(frozen=True)
class Precise:
    """What an artifact of another precision is compared with: golden arrays, their file, and tolerances.

    With `doubts` it never passes. `causes` are what may explain a failure on this machine.
    """

    golden: Golden
    path: Path
    tolerances: Mapping[str, Tolerance]
    apart: Mapping[str, float]
    doubts: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


def precise(directory: Path, artifact: Artifact, interface: Interface, golden: Golden, default: Path) -> Precise:
    """What `artifact` of `directory` is compared with: `golden`, of the file `default`, or the arrays of its own.

    Raises InputError where the manifest says nothing useful about its precision.
    """
    facts = artifact.options.get("quantization")
    if not isinstance(facts, dict):
        raise InputError(
            f"{artifact.path}: the manifest does not say how its precision was made; export the model again"
        )
    path = default
    if artifact.precision == "int8":
        name = facts.get("golden")
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{artifact.path}: the manifest names no arrays for it; export the model again")
        path = directory / name
        golden = read_golden(path, interface)
    specs = interface.by_output
    tolerances = {name: tolerance_of(artifact.precision, _pair(facts.get("noise"), name)) for name in specs}
    calibration = facts.get("calibration")
    doubts: tuple[str, ...] = ()
    if isinstance(calibration, dict) and calibration.get("source") == "noise":
        doubts = (
            f"{artifact.path}: is calibrated by noise, which says nothing about real data; "
            "give samples with --calibration",
        )
    return Precise(
        golden, path, tolerances, _apart(golden, specs, artifact.precision), doubts, _causes(artifact, facts)
    )


def tolerance_of(precision: str, noise: tuple[float, float] | None) -> Tolerance:
    """The tolerance of one output: min(cap, max(floor, factor * noise)); its maximum is not limited above 1 in int8."""
    gate = GATES[precision]
    if noise is None:
        value = UNKNOWN[precision]
        return Tolerance(value, value if precision == "float16" else 1.0, None, None, gate.factor, gate.floor, gate.cap)
    highest = gate.cap if precision == "float16" else 1.0
    largest = min(highest, max(gate.floor, gate.factor * noise[1]))
    return Tolerance(gate.bound(noise[0]), largest, *noise, gate.factor, gate.floor, gate.cap)


def controls_of(found: Precise, run: Run, specs: Mapping[str, TensorSpec], actual: Arrays) -> list[Control]:
    """The wrong outputs of an artifact, compared: each has to fail on one output at least.

    They are those in its golden arrays, and its own outputs `actual`, shifted by one sample.

    A control whose outputs are the reference's says nothing, nor does noise that calibrates as well as the samples.
    """
    artifact = run.artifact
    wrong = {"another-sample": _shifted(found.golden.references)}
    if artifact.precision == "int8":
        wrong |= {name: dict(arrays) for name, arrays in sorted(found.golden.controls.items())}
    named = {f"{artifact.format} {artifact.precision}: {name}": arrays for name, arrays in wrong.items()}
    if actual:
        named[f"{artifact.format} {artifact.precision} in {run.runtime}: another sample"] = _shifted(actual)
    return [_control(name, arrays, found, specs) for name, arrays in named.items()]


def over_all(found: Precise, row: Comparison, actual: Arrays, specs: Mapping[str, TensorSpec]) -> Comparison:
    """An int8 row with every output failed whose signal to noise ratio over all samples is below `LEAST_SQNR`."""
    if not row.precision.startswith("int8") or not actual:
        return row
    return replace(
        row, outputs=tuple(_with_sqnr(each, found.golden, actual, specs[each.output]) for each in row.outputs)
    )


def _with_sqnr(result: OutputResult, golden: Golden, actual: Arrays, spec: TensorSpec) -> OutputResult:
    if result.relative_l2 is None or not result.passed:
        return result
    gap = size = 0.0
    for one, other in zip(golden.references[spec.name], actual[spec.name], strict=True):
        reference, value, _ = pair(one, other, spec.activation)
        difference, norm = norms(value, reference)
        gap, size = gap + difference**2, size + norm**2
    found = -10 * math.log10(gap / size) if gap > 0 and size > 0 else math.inf
    if found >= LEAST_SQNR:
        return result
    reason = f"the signal to noise ratio over all samples, {found:.1f} dB, is below {LEAST_SQNR:.0f} dB"
    return replace(result, passed=False, reason=reason)


def verdict_of(found: Precise, row: Comparison, controls: Sequence[Control]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict about one row; int8 that is calibrated by noise never passes.

    Rounding that is larger than the tolerance allows is a failure here, not a doubt.
    """
    limits = {name: replace(bound, noise=None, noise_max=None) for name, bound in found.tolerances.items()}
    verdict, reasons = judge([row], controls, found.apart, limits)
    if found.doubts and verdict == "pass":
        verdict = "inconclusive"
    return verdict, (*reasons, *found.doubts, *(found.causes if verdict == "fail" else ()))


def _shifted(arrays: Arrays) -> dict[str, Array]:
    return {name: np.roll(array, 1, axis=0) if array.ndim else array for name, array in arrays.items()}


def _control(name: str, outputs: Arrays, found: Precise, specs: Mapping[str, TensorSpec]) -> Control:
    count = min(len(array) if array.ndim else 0 for array in outputs.values())
    reference = first_samples(found.golden.references, count)
    results = [each for each in compare_outputs(reference, outputs, specs, found.tolerances) if each.output in specs]
    figures = {each.output: each.relative_l2 for each in results if each.relative_l2 is not None}
    caught = tuple(each.output for each in results if each.output in figures and not each.passed)
    changed = any(value > FLOAT32_GATE.floor for value in figures.values())
    alike = not caught and (not changed or (name.endswith(BY_NOISE) and _as_good(figures, found.tolerances)))
    detail = "" if caught else "not distinguished from the reference"
    if alike:
        says = "noise calibrates this model as well as the samples" if changed else "its outputs are the reference's"
        detail = f"not applicable: {says}"
    largest = max(figures.values(), default=None)
    return Control(name, bool(caught), largest, detail, caught, not alike)


def _apart(golden: Golden, specs: Mapping[str, TensorSpec], precision: str) -> dict[str, float]:
    """How far two samples are apart, by output: the closest two; of int8 the median.

    Its tolerance is wide, and real samples of one class may be alike.
    """
    references = golden.references
    if not precision.startswith("int8"):
        return separation(references, specs)
    pairs = [
        first_samples({name: np.roll(array, -place, 0) for name, array in references.items()}, 2)
        for place in range(golden.samples)
    ]
    found = [separation(pair, specs) for pair in pairs]
    return {name: statistics.median(each[name] for each in found) for name in specs}


def _as_good(figures: Mapping[str, float], tolerances: Mapping[str, Tolerance]) -> bool:
    """Whether no output is further from the reference than the planned rounding explains."""
    return all(value <= AS_GOOD * (tolerances[name].noise or 0.0) for name, value in figures.items())


def _causes(artifact: Artifact, facts: Mapping[str, Json]) -> tuple[str, ...]:
    """That the products of an int8 file can saturate on this machine, as a sentence."""
    found = facts.get("saturation")
    layers = found.get("can_saturate") if isinstance(found, dict) else None
    here = processor()
    if not layers or here.exact:
        return ()
    said = f"sums of two products can exceed 16 bits in {len(layers)} layers, and {here}"
    return (f"{artifact.path}: {said}; export with --int8-target any",)


def _pair(noise: Json, name: str) -> tuple[float, float] | None:
    """The two figures of an output, None if they were not measured."""
    pair = noise.get(name) if isinstance(noise, dict) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(each, int | float) for each in pair):
        return None
    first, second = float(pair[0]), float(pair[1])
    return (first, second) if math.isfinite(first) and math.isfinite(second) and min(first, second) >= 0 else None
