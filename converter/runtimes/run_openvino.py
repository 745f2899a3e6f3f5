"""OpenVINO on the CPU, in float32: reads ONNX and TFLite files directly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnavailableError
from converter.core.text import NO_REASON, last_line
from converter.runtimes.shared.installed import installed, missing, threads
from converter.runtimes.shared.names import require_interface


class _Port(Protocol):
    """openvino.Output: an input or output of a model."""

    def get_names(self) -> set[str]: ...


def version() -> str | None:
    """The installed version, or None."""
    return installed("openvino")


def unavailable(device: str) -> str | None:
    """Why OpenVINO cannot run on `device` here, or None. OpenVINO itself is not imported."""
    return "OpenVINO runs on the CPU only" if device != "cpu" else missing("openvino", "cnnexport[openvino]")


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load and compile a file; tensors are paired by the names that `artifact` declares.

    On processors with bfloat16 OpenVINO would compute in it; float32 is requested, and read back. Raises InputError
    where OpenVINO refuses the file or a name differs, UnavailableError where it would not compute in float32.
    """
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads(),
    }
    try:
        core = openvino.Core()
        model = core.read_model(str(path))
        inputs = _by_name(model.inputs, [spec.name for spec in artifact.inputs])
        outputs = _by_name(model.outputs, [spec.name for spec in artifact.outputs])
        require_interface(path, artifact, list(inputs), list(outputs))
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").type_name
        used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        processor = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
    except RuntimeError as error:
        raise InputError(f"{path}: OpenVINO cannot load it: {_reason(error)}") from error
    if precision != "f32":
        raise UnavailableError(f"OpenVINO would compute in {precision} here, but float32 is verified")

    def run(given: Arrays) -> dict[str, Array]:
        try:
            results = request.infer({inputs[name]: array for name, array in given.items()})
        except RuntimeError as error:
            raise InputError(f"{path}: OpenVINO cannot run it: {_reason(error)}") from error
        return {name: results[index] for name, index in outputs.items()}

    return Prepared(run, {"openvino": version(), "device_name": processor, "precision": precision, "threads": used})


def _by_name(ports: Iterable[_Port], declared: Sequence[str]) -> dict[str, int]:
    """The index of each port by its declared name; a port may have further names."""
    found: dict[str, int] = {}
    for index, port in enumerate(ports):
        names = sorted(port.get_names())
        found[next((name for name in names if name in declared), names[0] if names else f"#{index}")] = index
    return found


def _reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with positions in its source code; the last line is the reason."""
    return last_line(str(error)) or NO_REASON


RUNTIME = Runtime("openvino", ("onnx", "tflite"), ("cpu",), version, unavailable, prepare)
