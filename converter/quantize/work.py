"""What every variant is made from, and how one is recorded as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from converter.core.data import Artifact, Golden, Interface
from converter.core.foreign import Facts
from converter.core.precision import PrecisionOptions, filename
from converter.quantize import onnx_int8, onnx_weights, tflite_int8, tflite_weights

INT8: Mapping[str, ModuleType] = {"onnx": onnx_int8, "tflite": tflite_int8}
WEIGHTS: Mapping[str, ModuleType] = {"onnx": onnx_weights, "tflite": tflite_weights}


@dataclass(frozen=True)
class Work:
    """An export in `directory` with its float32 artifacts, and what to make of it.

    `layers` has the class of each Keras layer by name, `golden` the arrays of the export.
    """

    directory: Path
    artifacts: tuple[Artifact, ...]
    interface: Interface
    layers: Mapping[str, str]
    golden: Golden
    options: PrecisionOptions
    seed: int = 0

    def source(self, artifact: Artifact) -> Path:
        """The float32 file."""
        return self.directory / artifact.path

    def target(self, artifact: Artifact, name: str) -> Path:
        """The file of the precision `name`."""
        return self.directory / filename(artifact.format, name)


@dataclass(frozen=True)
class Made:
    """The artifacts of one precision, sentences for the report, and one for each format that cannot hold it."""

    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """One written file: its files' names, its operators and the seconds that it took."""

    files: Sequence[Path]
    operators: Mapping[str, int]
    seconds: float


def recorded(artifact: Artifact, precision: str, written: Written, facts: Facts) -> Artifact:
    """The artifact of a variant of the float32 `artifact`; `facts` are what its proof needs and its reader asks."""
    options = {**artifact.options, "files": [each.name for each in written.files], "quantization": facts}
    return replace(
        artifact,
        path=written.files[0].name,
        precision=precision,
        operators=dict(written.operators),
        size=sum(each.stat().st_size for each in written.files),
        seconds=written.seconds,
        options=options,
    )
