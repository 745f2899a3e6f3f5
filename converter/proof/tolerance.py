"""How far an output may be from its reference: a multiple of what float rounding does to the reference itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from converter.core.data import Array, Arrays, TensorSpec
from converter.core.distance import Gate
from converter.core.errors import InputError, UsageError
from converter.core.results import Tolerance
from converter.proof.domains import measure

GATES = {
    "float32": Gate(factor=8.0, floor=1e-6, cap=1e-4),
    "tf32": Gate(factor=3.0, floor=1e-6, cap=1e-1),  # float32 on a device that may round its products to 10 bits
    "float16": Gate(factor=3.0, floor=1e-4, cap=1e-1),
}
INT8 = Gate(factor=0.0, floor=0.1, cap=0.1)  # relative L2 of 20 dB, whatever the noise
INT8_MAX = Gate(factor=0.0, floor=1.0, cap=1.0)  # no cell may be off by as much as the largest value of all
UNMEASURED = {"float32": 1e-5, "tf32": 1e-5, "float16": 1e-3}  # where no float64 reference says what the noise is


def bound(noise: float | None, row: str) -> float:
    """The tolerance of row `row` of `GATES` for a measured `noise`; the strict default where it is None."""
    return UNMEASURED[row] if noise is None else GATES[row].bound(noise)


def tolerances(
    reference: Arrays,
    exact: Arrays,
    specs: Mapping[str, TensorSpec],
    precision: str = "float32",
    tf32: bool = False,
    chosen: float | None = None,
) -> dict[str, Tolerance]:
    """The gate of every output: min(cap, max(floor, K * noise)), with the constants of `GATES`.

    The noise is the worst sample's distance between `reference` and `exact`, the same model in float64 (arrays of
    shape (samples, ...) by output name). For an output that `exact` lacks it is None and the tolerance 10 times the
    floor, 1e-5 for float32: never the cap, since nothing shows that the model needs it. int8 has a fixed gate of 20 dB
    (and 1 on the maximum). `chosen` replaces both bounds; the noise stays what was measured.

    Raises UsageError for an unknown precision or a `chosen` that is not a positive number, and InputError where
    `exact` has another shape than `reference` or either holds NaN or Inf.
    """
    if precision not in ("float32", "float16", "int8"):
        raise UsageError(f"precision {precision!r} has no tolerance; use float32, float16 or int8")
    if chosen is not None and not (math.isfinite(chosen) and chosen > 0):
        raise UsageError(f"tolerance {chosen:g}: give a positive number, for example 1e-5")
    row = "tf32" if tf32 and precision == "float32" else precision
    gate = INT8 if precision == "int8" else GATES[row]
    result = {}
    for name, spec in specs.items():
        noise, noise_max = (None, None) if name not in exact else _noise(name, reference[name], exact[name], spec)
        if chosen is not None:
            value = value_max = chosen
        elif precision == "int8":
            value, value_max = INT8.cap, INT8_MAX.cap
        else:
            value, value_max = bound(noise, row), bound(noise_max, row)
        result[name] = Tolerance(
            value, value_max, noise, noise_max, gate.factor, gate.floor, gate.cap, chosen is not None
        )
    return result


def _noise(name: str, reference: Array, exact: Array, spec: TensorSpec) -> tuple[float, float]:
    """Worst relative L2 and worst relative maximum over the samples."""
    if reference.shape != exact.shape or not reference.size:
        raise InputError(f"output {name}: float64 reference of shape {exact.shape} for outputs of {reference.shape}")
    if not (np.isfinite(reference).all() and np.isfinite(exact).all()):
        raise InputError(f"output {name}: the reference holds NaN or Inf")
    distances = [measure(one, other, spec.activation) for one, other in zip(reference, exact, strict=True)]
    return max(each.relative_l2 for each in distances), max(each.relative_max for each in distances)
