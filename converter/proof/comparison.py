"""Arrays against arrays: the gate, its tolerances, the guard that shows that it can fail, and the verdict.

Every distance is taken in the domain of `converter.proof.domains`, in float64, per output and per sample; the worst sample
speaks for its output. Knows no runtime.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from converter.core.data import Array, Arrays, Golden, TensorSpec, Verdict
from converter.proof.domains import (
    DOMAINS,
    Distance,
    left_out_excess,
    low_precision,
    measure,
    no_probabilities,
    score,
)
from converter.core.results import Comparison, Control, OutputResult, Tolerance
from converter.proof.tolerance import tolerances

__all__ = ["check_controls", "compare_outputs", "judge", "separation", "tolerances"]

RESOLUTION = 8 * 2.0**-23  # of a logit that is taken from float32 probabilities
SEPARATION, SEPARATION_LOW = 100.0, 3.0  # times the tolerance, between any two samples


def compare_outputs(
    reference: Arrays, actual: Arrays, specs: Mapping[str, TensorSpec], tolerances: Mapping[str, Tolerance]
) -> tuple[OutputResult, ...]:
    """One result per output, in the order of `specs`, then one per name that only one side has.

    Arrays have shape (samples, ...). Name, shape, dtype, emptiness and NaN or Inf come first: an output that differs
    there has failed with a `reason` and without numbers. Nothing is raised for what `actual` holds.
    """
    results = []
    for name in [*specs, *sorted((set(reference) | set(actual)) - set(specs))]:
        spec = specs.get(name)
        reason = _mismatch(name, reference, actual, spec, tolerances)
        if reason or spec is None:
            domain = DOMAINS[spec.activation] if spec else "value"
            results.append(OutputResult(name, domain, passed=False, reason=reason))
        else:
            results.append(_compare(reference[name], actual[name], spec, tolerances[name]))
    return tuple(results)


def _mismatch(
    name: str, reference: Arrays, actual: Arrays, spec: TensorSpec | None, tolerances: Mapping[str, Tolerance]
) -> str:
    """Why this output cannot be compared by numbers, or ""."""
    if spec is None:
        return "not an output of the model"
    if name not in reference or name not in actual:
        return "missing from the outputs" if name in reference else "missing from the reference"
    if name not in tolerances:
        return "has no tolerance"
    one, other = reference[name], actual[name]
    if one.shape != other.shape:
        return f"shape {other.shape} instead of {one.shape}"
    if one.dtype != other.dtype:
        return f"dtype {other.dtype} instead of {one.dtype}"
    if one.dtype.kind not in "fiub":
        return f"dtype {one.dtype} cannot be compared"
    if not one.ndim or not one.size:
        return "empty: nothing to compare"
    for side, array in (("reference", one), ("output", other)):
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            return f"{bad} of {array.size} values of the {side} are NaN or Inf"
        wrong = no_probabilities(array, spec.activation)
        if wrong:
            return f"{side}: {wrong}"
    return ""


def _compare(reference: Array, actual: Array, spec: TensorSpec, tolerance: Tolerance) -> OutputResult:
    """The gate on arrays that are known to be comparable: the worst sample's figures."""
    worst_share, worst_excess, index, worst = -1.0, 0.0, 0, None
    left_out = flips = votes = 0
    ranked = reference.ndim >= 2 and reference.shape[-1] > 1 and (spec.activation == "softmax" or reference.ndim == 2)
    for sample, (one, other) in enumerate(zip(reference, actual, strict=True)):
        distance = measure(one, other, spec.activation)
        excess = left_out_excess(one, other, spec.activation, tolerance)
        share = max(distance.relative_l2 / tolerance.value, distance.relative_max / tolerance.value_max, excess)
        left_out += distance.left_out
        if math.isnan(share):  # only where float64 itself overflowed
            share = math.inf
        if share > worst_share:
            worst_share, worst_excess, index, worst = share, excess, sample, distance
        if ranked:
            changed, counted = _flips(one, other, spec, 2 * tolerance.value_max * distance.largest)
            flips, votes = flips + changed, votes + counted
    assert worst is not None  # the caller refuses arrays without samples
    return OutputResult(
        output=spec.name,
        domain=DOMAINS[spec.activation],
        passed=worst_share <= 1,
        reason=_excess_reason(worst, worst_excess, tolerance),
        relative_l2=worst.relative_l2,
        relative_max=worst.relative_max,
        max_abs=worst.max_abs,
        cosine=worst.cosine,
        sqnr_db=worst.sqnr_db,
        worst_index=(index, *worst.index),
        top1_agreement=1 - flips / votes if votes else None,
        flips=flips,
        underflows=left_out,
        multiple=worst.relative_l2 / tolerance.noise if tolerance.noise else None,
    )


def _excess_reason(distance: Distance, excess: float, tolerance: Tolerance) -> str:
    """What the worst sample exceeds, in words, or ""."""
    if not distance.relative_l2 <= tolerance.value:
        return f"relative L2 {distance.relative_l2:.3g} exceeds {tolerance.value:.3g}"
    if not distance.relative_max <= tolerance.value_max:
        return f"max|d| / max|reference| {distance.relative_max:.3g} exceeds {tolerance.value_max:.3g}"
    return f"a probability near 0 or 1 is off by {excess:.3g} times what its logit may be" if excess > 1 else ""


def _flips(reference: Array, actual: Array, spec: TensorSpec, margin: float) -> tuple[int, int]:
    """(changed winners, rows) of one sample; classes on the last axis.

    A changed winner counts only where the reference's lead exceeds `margin`, twice the largest error that the
    tolerance allows: a smaller lead is a tie that rounding may decide.
    """
    wanted = score(reference, spec.activation).reshape(-1, reference.shape[-1])
    got = np.argmax(actual.reshape(-1, actual.shape[-1]), axis=-1)
    first = np.argmax(wanted, axis=-1)
    runner_up, winner = np.partition(wanted, -2, axis=-1)[:, -2:].T
    return int(np.sum((got != first) & (winner - runner_up > margin))), len(first)


def separation(reference: Arrays, specs: Mapping[str, TensorSpec]) -> dict[str, float]:
    """Smallest relative L2 distance between two samples' references (either as the base), by output name.

    0 with fewer than two samples, and for values that cannot be compared at all.
    """
    result = {}
    for name, spec in specs.items():
        array = reference[name]
        if len(array) < 2 or not array.size or not np.isfinite(array).all() or no_probabilities(array, spec.activation):
            result[name] = 0.0
            continue
        pairs = itertools.permutations(array, 2)
        result[name] = min(measure(one, other, spec.activation).relative_l2 for one, other in pairs)
    return result


def check_controls(
    golden: Golden, actual: Arrays | None, specs: Mapping[str, TensorSpec], tolerances: Mapping[str, Tolerance]
) -> tuple[Control, ...]:
    """Feed the comparison what is known to be wrong; every control says whether it was told apart.

    The controls: "another-sample", the references rolled by one; every stored one of `golden.controls`; and with an
    artifact's outputs in `actual`, "artifact-another-sample", those rolled by one. A control counts as detected where
    its numbers fail on every output, or on at least one for a "kernel-…" (a kernel in one output's branch does not move
    the others). Failing for another reason than numbers, such as a missing name or a NaN, proves nothing and is no
    detection. Kernel controls belong to float32 and are left out where a tolerance is of low precision, which they may
    well meet.
    """
    found = []
    for name, outputs in _wrong_answers(golden, actual, any(low_precision(each) for each in tolerances.values())):
        results = compare_outputs(golden.references, outputs, specs, tolerances)
        figures = {each.output: each.relative_l2 for each in results if each.relative_l2 is not None}
        caught = [each.output for each in results if each.output in figures and not each.passed]
        missed = [each.output for each in results if each.output not in caught]
        one_is_enough = name.startswith("kernel-")
        detected = bool(caught) and (one_is_enough or not missed)
        weakest = (max if one_is_enough else min)(figures.values(), default=None)
        detail = "" if detected else f"not told apart on {', '.join(missed) or 'any output'}"
        found.append(Control(name, detected, weakest, detail))
    return tuple(found)


def _wrong_answers(golden: Golden, actual: Arrays | None, low: bool) -> Iterator[tuple[str, Arrays]]:
    yield "another-sample", {name: np.roll(array, 1, axis=0) for name, array in golden.references.items()}
    for name, outputs in sorted(golden.controls.items()):
        if not (low and name.startswith("kernel-")):
            yield name, outputs
    if actual is not None:
        rolled = {name: np.roll(array, 1, axis=0) if array.ndim else array for name, array in actual.items()}
        yield "artifact-another-sample", rolled


def judge(
    rows: Sequence[Comparison],
    controls: Sequence[Control],
    separation: Mapping[str, float],
    tolerances: Mapping[str, Tolerance],
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons; a failure outranks doubt, since a check that failed evidently could.

    A difference beyond the gate that Keras's own rounding explains is doubt and no failure: Keras itself would miss
    that gate (a stock random classifier, whose logits are all rounding).
    """
    failures: list[str] = []
    doubts: list[str] = []
    if not rows:
        doubts.append("nothing was compared")
    for row in rows:
        where = f"{row.subject} in {row.runtime} on {row.device}"
        if not row.outputs:
            doubts.append(f"{where}: no output was compared")
        if row.samples < 2:
            doubts.append(f"{where}: {row.samples} sample(s) compared; two or more can be told apart")
        for output in row.outputs:
            if output.passed:
                continue
            text = f"{where}, output {output.output}: {output.reason or 'failed'}"
            if _within_noise(output, tolerances.get(output.output)):
                doubts.append(f"{text}; Keras's own rounding does nearly as much")
            else:
                failures.append(text)
    if not controls:
        doubts.append("no negative control was run")
    doubts += [f"control {control.name}: {control.detail}" for control in controls if not control.detected]
    for name, tolerance in tolerances.items():
        needed = (SEPARATION_LOW if low_precision(tolerance) else SEPARATION) * tolerance.value
        apart = separation.get(name, 0.0)
        if not apart >= needed:
            doubts.append(f"output {name}: two samples differ by {apart:.3g} only, {needed:.3g} is needed")
    if failures:
        return "fail", tuple(failures + doubts)
    return ("inconclusive", tuple(doubts)) if doubts else ("pass", ())


def _within_noise(output: OutputResult, tolerance: Tolerance | None) -> bool:
    """Whether the numbers of a failed output exceed the gate by no more than rounding explains.

    That is K times the noise, where this is above the cap, or eight units in the last place of a float32 probability.
    """
    if tolerance is None or tolerance.chosen or output.relative_l2 is None or output.relative_max is None:
        return False
    if not (output.relative_l2 > tolerance.value or output.relative_max > tolerance.value_max):
        return False
    if output.domain != "value" and output.max_abs is not None and output.max_abs <= RESOLUTION:
        return True
    if tolerance.noise is None or tolerance.noise_max is None:
        return False
    noisy = output.relative_l2 <= tolerance.factor * tolerance.noise
    return noisy and output.relative_max <= tolerance.factor * tolerance.noise_max
