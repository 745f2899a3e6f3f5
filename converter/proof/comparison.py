"""Compares the arrays of an artifact with the reference, output by output, and measures how different the samples are.

Every distance is computed in the domain of `converter.proof.domains`, in float64, for each output and sample; the
result of an output is that of its worst sample. Independent of the runtimes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from converter.core.data import Array, Arrays, TensorSpec
from converter.core.parallel import mapped
from converter.core.results import OutputResult, Tolerance
from converter.proof.domains import DOMAINS, Distance, apart, pair, probability_error, saturation_excess, score
from converter.proof.domains import distance as distance_of
from converter.proof.parts import Sums, worst_part


def compare_outputs(
    reference: Arrays, actual: Arrays, specs: Mapping[str, TensorSpec], tolerances: Mapping[str, Tolerance]
) -> tuple[OutputResult, ...]:
    """One result per output, in the order of `specs`, then one for each name that only one side has.

    Arrays have shape (samples, ...). Names, shapes, dtypes, emptiness and NaN or Inf are checked first: an output that
    differs there has failed with a `reason` and without numbers. Raises nothing for wrong content of `actual`.
    """

    def one(name: str) -> OutputResult:
        spec = specs.get(name)
        reason = _mismatch(name, reference, actual, spec, tolerances)
        if reason or spec is None:
            domain = DOMAINS[spec.activation] if spec else "value"
            return OutputResult(name, domain, passed=False, reason=reason)
        return _compare(reference[name], actual[name], spec, tolerances[name])

    names = [*specs, *sorted((set(reference) | set(actual)) - set(specs))]
    return tuple(mapped(one, names, _size(reference)))


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
        wrong = probability_error(array, spec.activation)
        if wrong:
            return f"{side}: {wrong}"
    return ""


def _compare(reference: Array, actual: Array, spec: TensorSpec, tolerance: Tolerance) -> OutputResult:
    """The comparison of two arrays that are known to be comparable: the figures of the worst sample."""
    worst_share, worst_excess, index, worst = -1.0, 0.0, 0, None
    saturated = flips = votes = 0
    sums = Sums()
    ranked = reference.ndim >= 2 and reference.shape[-1] > 1 and (spec.activation == "softmax" or reference.ndim == 2)
    for sample, (one, other) in enumerate(zip(reference, actual, strict=True)):
        sides = pair(one, other, spec.activation)
        distance = distance_of(sides, one.shape)
        excess = saturation_excess(one, other, spec.activation, tolerance, sides)
        share = max(distance.relative_l2 / tolerance.value, distance.relative_max / tolerance.value_max, excess)
        saturated += distance.saturated
        if tolerance.parts:
            sums.add(sides)
        if math.isnan(share):  # only if float64 itself overflowed
            share = math.inf
        if share > worst_share:
            worst_share, worst_excess, index, worst = share, excess, sample, distance
        if ranked:
            changed, counted = _flips(one, other, spec, 2 * tolerance.value_max * distance.largest)
            flips, votes = flips + changed, votes + counted
    assert worst is not None  # `_mismatch` rejects arrays without samples
    part, beyond = worst_part(sums, tolerance.parts) or (None, 0.0)
    reason = _excess_reason(worst, worst_excess, tolerance)
    if not reason and part is not None and not beyond <= 1:
        reason = f"{part.name}: the error of this part is {beyond:.3g} times its limit"
    return OutputResult(
        output=spec.name,
        domain=DOMAINS[spec.activation],
        passed=worst_share <= 1 and beyond <= 1,
        reason=reason,
        relative_l2=worst.relative_l2,
        relative_max=worst.relative_max,
        max_abs=worst.max_abs,
        cosine=worst.cosine,
        sqnr_db=worst.sqnr_db,
        worst_index=(index, *worst.index),
        top1_agreement=1 - flips / votes if votes else None,
        flips=flips,
        underflows=saturated,
        multiple=worst.relative_l2 / tolerance.noise if tolerance.noise else None,
    )


def _excess_reason(distance: Distance, excess: float, tolerance: Tolerance) -> str:
    """Which limit the worst sample exceeds, as text, or ""."""
    if not distance.relative_l2 <= tolerance.value:
        return f"relative L2 {distance.relative_l2:.3g} exceeds {tolerance.value:.3g}"
    if not distance.relative_max <= tolerance.value_max:
        return f"max|d| / max|reference| {distance.relative_max:.3g} exceeds {tolerance.value_max:.3g}"
    return f"a probability near 0 or 1 differs by {excess:.3g} times its limit" if excess > 1 else ""


def _flips(reference: Array, actual: Array, spec: TensorSpec, margin: float) -> tuple[int, int]:
    """(number of changed top-1 classes, number of predictions) of one sample; classes on the last axis.

    A changed class counts only if the lead in the reference exceeds `margin`, twice the largest error that the
    tolerance allows: a smaller lead is a tie, which rounding may decide.
    """
    plain = reference.reshape(-1, reference.shape[-1])
    got, first = np.argmax(actual.reshape(plain.shape), axis=-1), np.argmax(plain, axis=-1)
    changed = np.flatnonzero(got != first)
    if not len(changed):
        return 0, len(first)
    runner_up, winner = np.partition(score(plain[changed], spec.activation), -2, axis=-1)[:, -2:].T
    return int(np.sum(winner - runner_up > margin)), len(first)


def separation(reference: Arrays, specs: Mapping[str, TensorSpec]) -> dict[str, float]:
    """The smallest relative L2 distance between a sample of the reference and the next one, by output name.

    The last sample is followed by the first. Pairs of equal outputs are left out, because several samples may have the
    same class, or saturate, unless all are equal: then the distance is 0. It is 0 for fewer than two samples too, and
    for values that cannot be compared.
    """
    found = mapped(lambda pair: _separation(reference[pair[0]], pair[1]), specs.items(), _size(reference))
    return dict(zip(specs, found, strict=True))


def _separation(array: Array, spec: TensorSpec) -> float:
    comparable = array.size and np.isfinite(array).all() and not probability_error(array, spec.activation)
    if len(array) < 2 or not comparable:
        return 0.0
    following = (array[(index + 1) % len(array)] for index in range(len(array)))
    distances = (apart(one, other, spec.activation) for one, other in zip(array, following, strict=True))
    return min((distance for distance in distances if distance > 0), default=0.0)


def _size(arrays: Arrays) -> int:
    return sum(array.size for array in arrays.values())
