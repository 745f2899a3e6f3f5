"""Precisions besides float32 that an artifact may be written in, and the options of writing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PRECISIONS = {"fp16": "float16", "int8": "int8", "int8-weights": "int8-weights", "int8-dynamic": "int8-dynamic"}
"""The value of an artifact's `precision` by the name that `--precision` and the file's name have for it"""

FORMATS = ("onnx", "tflite")
"""The formats that can hold another precision than float32"""

NOISE = "noise"
"""As the calibration: seeded noise instead of data"""

AUTO = "auto"
"""As the layers to keep in float: those that a measurement of each layer finds"""

Method = Literal["minmax", "percentile", "entropy"]
Target = Literal["vnni", "any"]

METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")
TARGETS: tuple[Target, ...] = ("vnni", "any")


@dataclass(frozen=True)
class PrecisionOptions:
    """What to write besides float32. `names` are keys of `PRECISIONS`.

    `calibration` is a file or folder of samples, or `NOISE`; int8 needs it. `method` turns the observed values into
    ranges. `keep_float` are Keras layers that int8 leaves in float32, or `AUTO` alone. With `target` "any", no sum of
    two products can exceed 16 bits, so that the file computes the same on processors without VNNI. `half_ports` gives
    the float16 ONNX file inputs and outputs of its own type instead of float32.
    """

    names: tuple[str, ...] = ()
    calibration: Path | None = None
    method: Method = "minmax"
    keep_float: tuple[str, ...] = ()
    target: Target = "vnni"
    half_ports: bool = False

    @property
    def noise(self) -> bool:
        """Whether int8 is calibrated by seeded noise."""
        return self.calibration is not None and str(self.calibration) == NOISE


def filename(form: str, name: str) -> str:
    """The file of the precision `name` in the format `form`, for example model.int8.onnx."""
    return f"model.{name}.{form}"


def short_name(precision: str) -> str:
    """The name in `PRECISIONS` of an artifact's precision; the precision itself if there is none."""
    return next((name for name, each in PRECISIONS.items() if each == precision), precision)
