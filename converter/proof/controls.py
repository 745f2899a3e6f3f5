"""Negative controls: outputs that are known to be wrong, given to the comparison to show that it can fail.

A comparison that accepts them proves nothing about an artifact; `converter.proof.verdict` then returns inconclusive. A
control is only a wrong answer where Keras itself answers differently: channels in reverse order before a pooling layer
change nothing. How far Keras's answers are apart decides whether a control is applicable, and the comparison whether it
is detected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from converter.core.data import Array, Arrays, Golden, TensorSpec, first_samples
from converter.core.distance import FLOAT32
from converter.core.parallel import mapped
from converter.core.results import Control, OutputResult, Tolerance
from converter.proof.comparison import compare_outputs
from converter.proof.domains import low_precision

SHIFTED = "another sample"
"""An artifact's own outputs, shifted by one sample."""

OF_WEIGHTS = ("kernel-", "weights-")
"""The beginnings of the names of controls that change a weight of the model."""

FEW, SEVERAL = 2, 4
"""How many samples of an artifact's own outputs are shifted, for each row again, and how many of the references."""


def check_controls(
    golden: Golden, specs: Mapping[str, TensorSpec], tolerances: Mapping[str, Tolerance]
) -> tuple[Control, ...]:
    """Compare outputs that are known to be wrong; each control records whether it was detected.

    The controls: "another-sample", the references shifted by one sample; "channels-exchanged", the references with the
    last axis shifted by one; and every stored one of `golden.controls`. A control is detected if its numbers fail on
    every output on which Keras answers differently, and there is one. A failure for another reason than numbers, such
    as a missing name or a NaN, proves nothing and is not a detection. Controls of weights apply to float32 only: they
    are left out if a tolerance is of low precision, which they may meet.
    """
    low = any(low_precision(each) for each in tolerances.values())
    wrong = _of_golden(golden, low)
    size = sum(array.size for array in golden.references.values())
    return tuple(mapped(lambda found: _checked(*found, specs, tolerances), wrong, size))


def check_shifted(
    golden: Golden, actual: Arrays, specs: Mapping[str, TensorSpec], tolerances: Mapping[str, Tolerance]
) -> Control:
    """The control "another sample" of one artifact: its own outputs `actual`, shifted by one sample."""
    count = min(FEW, _length(actual)) if actual else 0
    first = first_samples(golden.references, count)
    rolled = {name: np.roll(array[:count], 1, axis=0) if array.ndim else array for name, array in actual.items()}
    return _checked(SHIFTED, first, rolled, specs, tolerances)


def _checked(
    name: str,
    reference: Arrays,
    outputs: Arrays,
    specs: Mapping[str, TensorSpec],
    tolerances: Mapping[str, Tolerance],
) -> Control:
    results = [result for result in compare_outputs(reference, outputs, specs, tolerances) if result.output in specs]
    different = [each for each in results if not _alike(each, tolerances.get(each.output))]
    caught = [each.output for each in different if each.relative_l2 is not None and not each.passed]
    missed = [each.output for each in different if each.output not in caught]
    figures = [each.relative_l2 for each in different if each.relative_l2 is not None]
    detail = f"not distinguished from the reference on {', '.join(missed)}" if missed else ""
    if not different:
        detail = "not applicable: Keras itself gives the same answer"
    return Control(
        name=name,
        detected=bool(caught) and not missed,
        relative_l2=min(figures, default=None),
        detail=detail,
        outputs=tuple(caught),
        applicable=bool(different),
    )


def _alike(result: OutputResult, tolerance: Tolerance | None) -> bool:
    """Whether the control's output differs from the reference by no more than the rounding of float32 explains."""
    if result.relative_l2 is None or tolerance is None:
        return False
    explained = FLOAT32.factor * (tolerance.noise or 0.0)
    if explained > FLOAT32.cap and result.relative_l2 <= explained:
        return True  # above the tolerance, but the model itself is no more precise
    return result.passed and result.relative_l2 <= FLOAT32.bound(tolerance.noise or 0.0)


def _of_golden(golden: Golden, low: bool) -> Iterator[tuple[str, Arrays, Arrays]]:
    """Name, reference and wrong outputs of each control."""
    references = golden.references
    some = first_samples(references, SEVERAL)
    yield "another-sample", some, {name: np.roll(array, 1, axis=0) for name, array in some.items()}
    first = first_samples(references, 2)
    exchanged = {name: np.roll(array, 1, axis=-1) if array.ndim > 1 else array for name, array in first.items()}
    yield "channels-exchanged", first, exchanged
    for name, outputs in sorted(golden.controls.items()):
        if not (low and name.startswith(OF_WEIGHTS)):
            yield name, first_samples(references, _length(outputs)), outputs


def _length(arrays: Mapping[str, Array]) -> int:
    return min(len(array) if array.ndim else 1 for array in arrays.values())
