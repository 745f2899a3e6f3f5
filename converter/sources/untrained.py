"""Seeded and calibrated weights for an untrained model, so that comparing its outputs is meaningful."""

from __future__ import annotations

import math
from collections.abc import Mapping

from converter.core.data import TensorSpec
from converter.core.errors import InputError
from converter.core.foreign import Json, KerasModel
from converter.core.text import one_line

CALIBRATION_SAMPLES, MOST_SAMPLES = 4, 64
CALIBRATION_PIXELS = 8 * 64 * 64
"""Of all samples together. A deep network reduces a small image to one pixel, and a variance over eight numbers may be
so small that dividing by it amplifies rounding: to 9e-5 in EfficientNetV2M at 32 x 32 with 8 samples, 2e-5 with 32."""


def calibrated(model: KerasModel, name: str, seed: int, preprocessing: Mapping[str, Json]) -> None:
    """Overwrite the weights of `model` from `seed`, calibrated over inputs in the range of `preprocessing`.

    There are four inputs, or up to 64 where images are smaller than 90 x 90. Raises InputError where a layer returns
    NaN for valid inputs.
    """
    from converter.core.samples import generate, input_ranges
    from converter.tracing.signature import describe
    from zoo.calibrate import calibrate_again

    signature = describe(model)
    ranges = input_ranges(preprocessing, signature.inputs)
    arrays = generate(signature.inputs, _samples(signature.inputs), seed, ranges)
    try:
        calibrate_again(model, signature.pack([arrays[spec.name] for spec in signature.inputs]), seed)
    except ValueError as error:
        raise InputError(
            f"{name}: no weights could be drawn: {one_line(error)}\ncheck the layers, or give --weights"
        ) from error


def _samples(inputs: tuple[TensorSpec, ...]) -> int:
    """How many samples of `inputs` have enough pixels for the calibration."""
    sizes = [math.prod(axis or 64 for axis in spec.shape[1:-1]) for spec in inputs if spec.layout]
    needed = math.ceil(CALIBRATION_PIXELS / max(sizes, default=CALIBRATION_PIXELS))
    return min(max(needed, CALIBRATION_SAMPLES), MOST_SAMPLES)
