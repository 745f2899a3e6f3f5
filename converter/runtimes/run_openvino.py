"""OpenVINO on the CPU, in float32: reads ONNX and TFLite files as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnavailableError
from converter.core.text import first_line
from converter.runtimes.shared.installed import installed, missing, require_names, threads


def version() -> str | None:
    """The installed version, or None."""
    return installed("openvino")


def unavailable(device: str) -> str | None:
    """Why OpenVINO cannot run on `device` here, or None. OpenVINO itself is not imported for the answer."""
    return "OpenVINO is run on the CPU" if device != "cpu" else missing("openvino", "openvino")


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load and compile a file; tensors are paired by the names that `artifact` declares.

    On processors with bfloat16 OpenVINO would compute in it; float32 is asked for and read back. Raises InputError
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
        declared_inputs = _declared(path, "input", model.inputs, [spec.name for spec in artifact.inputs])
        declared_outputs = _declared(path, "output", model.outputs, [spec.name for spec in artifact.outputs])
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").type_name
        processor = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
    except RuntimeError as error:
        raise InputError(f"{path}: OpenVINO cannot load it: {_reason(error)}") from error
    if precision != "f32":
        raise UnavailableError(f"OpenVINO would compute in {precision} here, and float32 is what is verified")

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            results = request.infer({declared_inputs[name]: array for name, array in inputs.items()})
        except RuntimeError as error:
            raise InputError(f"{path}: OpenVINO cannot run it: {_reason(error)}") from error
        return {name: results[index] for name, index in declared_outputs.items()}

    facts = {"openvino": version(), "device_name": processor, "precision": precision, "threads": threads()}
    return Prepared(run, facts)


def _declared(path: Path, what: str, ports: Any, declared: list[str]) -> dict[str, int]:
    """Index of each port by its declared name; a port may have further names."""
    found: dict[str, int] = {}
    for index, port in enumerate(ports):
        names = sorted(port.get_names())
        found[next((name for name in names if name in declared), names[0] if names else f"#{index}")] = index
    require_names(path, what, declared, list(found))
    return found


def _reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with where in its source they arose; the last line is what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(lines[-1] if lines else error)


RUNTIME = Runtime("openvino", ("onnx", "tflite"), ("cpu",), version, unavailable, prepare)
