"""Warnings of an export about what the artifacts are compared with."""

from __future__ import annotations

from converter.core.data import Arrays
from converter.proof.comparison import compare_outputs
from converter.proof.tolerance import tolerances
from converter.tracing.reference import Measured

HALF_PRECISION = (
    "Keras computes this model, or a part of it, in {0}; the artifacts compute in float32 and are compared with float64"
)
NO_FLOAT64 = (
    "Keras computes this model, or a part of it, in {0}; the artifacts compute in float32, and because there is no "
    "float64 to compare with, their tolerance is derived from the rounding error of {0} in Keras's predictions"
)


def change_warning(own: Arrays, changed: Measured) -> str:
    """A warning that the artifacts are compared with the changed function, and its distance from the original one."""
    golden, specs = changed.golden, changed.by_output
    bounds = tolerances(golden, specs, changed.precision)
    found = [
        f"{each.output} {each.reason if each.relative_l2 is None else f'{each.relative_l2:.1e}'}"
        for each in compare_outputs(own, golden.references, specs, bounds)
    ]
    return (
        "--groups as-written: the artifacts are compared with the changed function, not with the model's own "
        f"predictions; the two differ by a relative L2 of: {', '.join(found)}"
    )
