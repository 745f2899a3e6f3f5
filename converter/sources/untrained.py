"""Seeded weights for a model that has none of its own, so that comparing its outputs means something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from converter.core import Arrays, TensorSpec
from converter.errors import InputError
from converter.sources.names import one_line

CALIBRATION_SAMPLES = 8


def calibrated(
    model: Any,
    name: str,
    seed: int,
    preprocessing: Mapping[str, Any],
    sample_inputs: Callable[[tuple[TensorSpec, ...], int], Arrays] | None,
) -> None:
    """Overwrite the weights of `model` from `seed`, calibrated over eight inputs in the range of `preprocessing`.

    Raises InputError where a layer yields NaN for valid inputs.
    """
    from converter.signature import describe
    from zoo.calibrate import calibrate

    signature = describe(model)
    if sample_inputs is not None:
        arrays = sample_inputs(signature.inputs, CALIBRATION_SAMPLES)
    else:
        from converter.samples import generate

        bounds = preprocessing.get("range")
        ranges = {spec.name: (float(bounds[0]), float(bounds[1])) for spec in signature.inputs} if bounds else None
        arrays = generate(signature.inputs, CALIBRATION_SAMPLES, seed, ranges)
    try:
        calibrate(model, signature.pack([arrays[spec.name] for spec in signature.inputs]), seed)
    except ValueError as error:
        raise InputError(f"{name}: no weights could be drawn: {one_line(error)}") from error
