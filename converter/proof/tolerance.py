"""The tolerance of an output: a multiple of the float rounding error measured in the reference itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from converter.core.data import Array, Golden, TensorSpec
from converter.core.distance import FLOAT32, Gate
from converter.core.errors import InputError, UsageError
from converter.core.results import Part, Tolerance
from converter.proof.domains import measure
from converter.proof.parts import parts_of

GATES = {
    "float32": FLOAT32,
    "tf32": Gate(factor=3.0, floor=1e-6, cap=1e-1),  # float32 with products rounded to 10 bits of mantissa
    "float16": Gate(factor=3.0, floor=1e-4, cap=1e-1),
}
INT8 = Gate(factor=0.0, floor=0.1, cap=0.1)  # relative L2 of 20 dB, independent of the noise
INT8_MAX = Gate(factor=0.0, floor=1.0, cap=1.0)  # the largest difference must not exceed the largest value
UNCERTAINTY = 4.0  # a noise taken from n values is that of n others by the factor 1 + UNCERTAINTY / sqrt(n) at most
DEFAULTS = {"float32": 1e-5, "tf32": 1e-5, "float16": 1e-3}  # if the noise is unknown: no float64 model


def bound(noise: float | None, row: str) -> float:
    """The tolerance of row `row` of `GATES` for a measured `noise`; the strict default if the noise is None."""
    return DEFAULTS[row] if noise is None else GATES[row].bound(noise)


def tolerances(
    golden: Golden,
    specs: Mapping[str, TensorSpec],
    precision: str = "float32",
    tf32: bool = False,
    chosen: float | None = None,
) -> dict[str, Tolerance]:
    """The tolerance of every output: min(cap, max(floor, factor * noise)), with the constants of `GATES`.

    In float32 the factor is larger where the noise is taken from few values, and so is not known well.

    The noise is the worst sample's distance between the traced graph in float32 and the same graph in float64, `exact`
    of `golden`, for the samples that it has. Keras's own predictions are not part of it: an error of the trace would
    count as noise. For an output that `exact` lacks, the noise is None and the tolerance is 10 times the floor, 1e-5
    for float32; it is not the cap, because nothing shows that the model needs it. int8 has a fixed tolerance of 20 dB
    (and 1 for the maximum). `chosen` replaces both limits; the measured noise stays. Parts of an output are limited in
    float32 only, and not if the limit was `chosen`.

    Raises UsageError for an unknown precision or a `chosen` that is not a positive number. Raises InputError if `exact`
    has another shape than the float32 outputs, or if either contains NaN or Inf.
    """
    if precision not in ("float32", "float16", "int8"):
        raise UsageError(f"precision {precision!r} has no tolerance; use float32, float16 or int8")
    if chosen is not None and not (math.isfinite(chosen) and chosen > 0):
        raise UsageError(f"tolerance {chosen:g}: give a positive number, for example 1e-5")
    row = "tf32" if tf32 and precision == "float32" else precision
    gate = INT8 if precision == "int8" else GATES[row]
    result = {}
    rounded = golden.rounded
    for name, spec in specs.items():
        single, exact = rounded.get(name), golden.exact.get(name)
        noise, noise_max = (None, None) if single is None or exact is None else _noise(name, single, exact, spec)
        if row == "float32" and single is not None:
            gate = replace(GATES[row], factor=GATES[row].factor * (1 + UNCERTAINTY / math.sqrt(max(1, single.size))))
        if chosen is not None:
            value = value_max = chosen
        elif precision == "int8":
            value, value_max = INT8.cap, INT8_MAX.cap
        elif noise is None or noise_max is None:
            value = value_max = DEFAULTS[row]
        else:
            value, value_max = gate.bound(noise), gate.bound(noise_max)
        parts: tuple[Part, ...] = ()
        if row == "float32" and chosen is None and precision != "int8":
            parts = parts_of(golden.references[name], None if exact is None else single, exact, spec, GATES[row])
        result[name] = Tolerance(
            value, value_max, noise, noise_max, gate.factor, gate.floor, gate.cap, chosen is not None, parts
        )
    return result


def _noise(name: str, reference: Array, exact: Array, spec: TensorSpec) -> tuple[float, float]:
    """The largest relative L2 and the largest relative maximum over the samples."""
    if reference.shape != exact.shape or not reference.size:
        raise InputError(f"output {name}: the float64 outputs have shape {exact.shape} instead of {reference.shape}")
    if not (np.isfinite(reference).all() and np.isfinite(exact).all()):
        raise InputError(f"output {name}: the reference contains NaN or Inf")
    distances = [measure(one, other, spec.activation) for one, other in zip(reference, exact, strict=True)]
    return max(each.relative_l2 for each in distances), max(each.relative_max for each in distances)
