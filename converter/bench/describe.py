"""The inputs and outputs of a file that no manifest describes: `python -m converter.bench.describe`, with a job.

In a process of its own, since a runtime may crash on a damaged file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.bundle.manifest import artifact_from_json
from converter.core.data import Artifact, TensorSpec
from converter.core.errors import InputError
from converter.core.foreign import Facts, Json
from converter.core.jsonable import Fields, plain
from converter.core.text import first_line
from converter.proof.child import main
from converter.proof.isolate import call
from converter.runtimes.shared.onnx_records import require_own_weights, sidecar_of

CHILD = "converter.bench.describe"
FOREIGN = {"signature": "none"}
"""The options of an artifact whose signature need not have the names of its tensors"""

_ONNX = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class DescribeJob:
    """Describe the file `path` of a format."""

    path: Path
    format: str


def describe(path: Path, form: str) -> Artifact:
    """The artifact of a file of any origin. Raises InputError where its runtime refuses it, ChildError on a crash."""
    return artifact_from_json(call(CHILD, DescribeJob(path, form), f"{path}")["artifact"])


def run(raw: Json) -> Facts:
    """Do the `DescribeJob` in `raw`."""
    fields = Fields(raw, "job")
    path, form = Path(fields.get("path", str)), fields.get("format", str)
    inputs, outputs = (_onnx if form == "onnx" else _tflite)(path)
    sidecar = sidecar_of(path) if form == "onnx" else None
    size = path.stat().st_size + (sidecar.stat().st_size if sidecar else 0)
    artifact = Artifact(form, path.name, "float32", inputs, outputs, {}, size, 0.0, FOREIGN)
    return {"artifact": plain(artifact)}


Ports = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]


def _onnx(path: Path) -> Ports:
    import onnxruntime

    require_own_weights(path)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes have no common base
        raise InputError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from error
    inputs, outputs = (
        tuple(TensorSpec(each.name, _shape(each.shape), _ONNX.get(each.type, each.type)) for each in ports)
        for ports in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs


def _tflite(path: Path) -> Ports:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path))
        details = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: LiteRT cannot load it: {first_line(error)}") from error
    inputs, outputs = (
        tuple(
            TensorSpec(each["name"], _shape(each["shape_signature"].tolist()), each["dtype"].__name__) for each in side
        )
        for side in details
    )
    return inputs, outputs


def _shape(sizes: list[int | str | None]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in sizes) or (None,)


if __name__ == "__main__":
    main(run)
