"""LiteRT (ai-edge-litert), on the CPU with the XNNPACK delegate: the runtime of TFLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.core import Array, Arrays, Artifact, Prepared, Runtime
from converter.errors import InputError


def version() -> str | None:
    """The installed version, or None."""
    import importlib.metadata

    try:
        return importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError:
        return None


def unavailable(device: str) -> str | None:
    """Why LiteRT cannot run on `device` here, or None."""
    if device != "cpu":
        return "LiteRT runs on the CPU here"
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        return f"ai-edge-litert cannot be imported ({error}); pip install ai-edge-litert"
    return None


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load a TFLite file; inputs and outputs are paired by the tensor names that `artifact` declares.

    Raises InputError where LiteRT refuses the file or a declared name is not in it.
    """
    import os

    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=os.cpu_count() or 1)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: LiteRT cannot load it: {str(error).splitlines()[0][:300]}") from error
    given = _indices(interpreter.get_input_details(), [spec.name for spec in artifact.inputs], path)
    returned = _indices(interpreter.get_output_details(), [spec.name for spec in artifact.outputs], path)
    shapes: dict[str, tuple[int, ...]] = {}

    def run(inputs: Arrays) -> dict[str, Array]:
        changed = {name: array.shape for name, array in inputs.items() if shapes.get(name) != array.shape}
        try:
            for name, shape in changed.items():
                interpreter.resize_tensor_input(given[name], list(shape))
            if changed:
                interpreter.allocate_tensors()
                shapes.update(changed)
            for name, array in inputs.items():
                interpreter.set_tensor(given[name], array)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path}: LiteRT cannot run it: {str(error).splitlines()[0][:300]}") from error
        return {name: interpreter.get_tensor(index) for name, index in returned.items()}

    return Prepared(run, {"litert": version(), "delegate": "XNNPACK"})


def _indices(details: list[dict[str, Any]], names: list[str], path: Path) -> dict[str, int]:
    found = {detail["name"]: detail["index"] for detail in details}
    for name in names:
        if name not in found:
            raise InputError(f"{path}: has no tensor called {name}, only {', '.join(sorted(found))[:200]}")
    return {name: found[name] for name in names}


RUNTIME = Runtime("litert", ("tflite",), ("cpu",), version, unavailable, prepare)
