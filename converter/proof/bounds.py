"""The tolerances of a row for each size of the inputs, and its results: the worst over batch sizes and input sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Arrays, Golden, TensorSpec, first_samples
from converter.core.results import OutputResult, Tolerance
from converter.proof.comparison import compare_outputs
from converter.proof.isolate import Ran
from converter.proof.protocol import samples_at


@dataclass(frozen=True)
class Bounds:
    """The tolerances by output name, for the declared size and for inputs of another size (empty: there are none).

    For another size, where fewer samples are measured, the larger noise of the two sizes counts.
    """

    whole: Mapping[str, Tolerance]
    resized: Mapping[str, Tolerance]


def larger(bound: Tolerance, other: Tolerance) -> Tolerance:
    """`bound` with the limits of `other` for the whole output where those are larger."""
    limits = max(bound.value, other.value), max(bound.value_max, other.value_max)
    return replace(bound, value=limits[0], value_max=limits[1])


def results_of(golden: Golden, ran: Ran, specs: Mapping[str, TensorSpec], bounds: Bounds) -> tuple[OutputResult, ...]:
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
