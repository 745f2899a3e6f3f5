"""Negative controls: outputs that are known to be wrong, given to the comparison to show that it can fail.

A comparison that accepts them proves nothing about an artifact; `converter.proof.verdict` then returns inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from converter.core.data import Arrays, Golden, TensorSpec
from converter.core.results import Control, Tolerance
from converter.proof.comparison import compare_outputs
from converter.proof.domains import low_precision

ARTIFACT_CONTROL = "artifact-another-sample"
"""The artifact's own outputs, shifted by one sample."""


def check_controls(
    golden: Golden, actual: Arrays | None, specs: Mapping[str, TensorSpec], tolerances: Mapping[str, Tolerance]
) -> tuple[Control, ...]:
    """Compare outputs that are known to be wrong; each control records whether it was detected.

    The controls: "another-sample", the references shifted by one sample; every stored one of `golden.controls`; and,
    with an artifact's outputs in `actual`, "artifact-another-sample", those shifted by one sample. A control is
    detected if its numbers fail on every output, or on at least one output for a "kernel-…" control (a kernel in the
    branch of one output does not change the others). A failure for another reason than numbers, such as a missing name
    or a NaN, proves nothing and is not a detection. Kernel controls apply to float32 only: they are left out if a
    tolerance is of low precision, which they may meet.
    """
    found = []
    for name, outputs in _wrong_outputs(golden, actual, any(low_precision(each) for each in tolerances.values())):
        results = compare_outputs(golden.references, outputs, specs, tolerances)
        figures = {each.output: each.relative_l2 for each in results if each.relative_l2 is not None}
        caught = [each.output for each in results if each.output in figures and not each.passed]
        missed = [each.output for each in results if each.output not in caught]
        one_is_enough = name.startswith("kernel-")
        detected = bool(caught) and (one_is_enough or not missed)
        weakest = (max if one_is_enough else min)(figures.values(), default=None)
        detail = "" if detected else f"not distinguished from the reference on {', '.join(missed) or 'any output'}"
        found.append(Control(name, detected, weakest, detail))
    return tuple(found)


def _wrong_outputs(golden: Golden, actual: Arrays | None, low: bool) -> Iterator[tuple[str, Arrays]]:
    yield "another-sample", {name: np.roll(array, 1, axis=0) for name, array in golden.references.items()}
    for name, outputs in sorted(golden.controls.items()):
        if not (low and name.startswith("kernel-")):
            yield name, outputs
    if actual is not None:
        rolled = {name: np.roll(array, 1, axis=0) if array.ndim else array for name, array in actual.items()}
        yield ARTIFACT_CONTROL, rolled
