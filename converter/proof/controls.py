"""The guard that shows that the comparison can fail: answers that are known to be wrong, fed to it.

A check that passes them says nothing about an artifact; `converter.proof.verdict` turns that into doubt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from converter.core.data import Arrays, Golden, TensorSpec
from converter.core.results import Control, Tolerance
from converter.proof.comparison import compare_outputs
from converter.proof.domains import low_precision

ARTIFACT_CONTROL = "artifact-another-sample"
"""The artifact's own answers, moved by one sample."""


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
        yield ARTIFACT_CONTROL, rolled
