"""tract, an inference engine in Rust, on the CPU: reads ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError
from converter.core.text import first_line
from converter.runtimes.shared.installed import cpu_name, installed, missing, require_names
from converter.runtimes.shared.onnx_records import onnx_names

_TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "int32": "i32", "int64": "i64", "uint8": "u8"}


def version() -> str | None:
    """The installed version, or None."""
    return installed("tract")


def unavailable(device: str) -> str | None:
    """Why tract cannot run on `device` here, or None. tract itself is not imported for the answer."""
    return "tract is run on the CPU" if device != "cpu" else missing("tract", "tract")


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load an ONNX file. tract calls outputs by their node, so their order in the file is read and names are paired.

    A model with a dynamic batch is compiled for the sizes it is given, anew where they change; the first compilation
    is part of loading. Raises InputError where tract refuses the file or a name differs.
    """
    import tract

    inputs, outputs = onnx_names(path)
    specs = {spec.name: spec for spec in artifact.inputs}
    require_names(path, "input", [spec.name for spec in artifact.inputs], inputs)
    require_names(path, "output", [spec.name for spec in artifact.outputs], outputs)
    compiled: dict[tuple[str, ...], Any] = {}

    def compile_for(sizes: tuple[str, ...]) -> Any:
        if sizes not in compiled:
            compiled.clear()  # one at a time: each holds the weights
            try:
                model = tract.onnx().load(str(path))
                _require_order([model.input_name(index) for index in range(model.input_count())], inputs, path)
                for index, size in enumerate(sizes):
                    model.set_input_fact(index, size)
                compiled[sizes] = model.into_model().into_runnable()
            except tract.TractError as error:
                raise InputError(f"{path}: tract cannot load it: {first_line(error)}") from error
        return compiled[sizes]

    def run(given: Arrays) -> dict[str, Array]:
        runnable = compile_for(tuple(_fact(given[name].shape, str(given[name].dtype)) for name in inputs))
        try:
            results = runnable.run([np.ascontiguousarray(given[name]) for name in inputs])
        except tract.TractError as error:
            raise InputError(f"{path}: tract cannot run it: {first_line(error)}") from error
        return {name: tensor.to_numpy() for name, tensor in zip(outputs, results, strict=True)}

    if all(None not in spec.shape[1:] for spec in specs.values()):
        shapes = {name: (spec.shape[0] or 1, *spec.shape[1:]) for name, spec in specs.items()}
        compile_for(tuple(_fact(shapes[name], specs[name].dtype) for name in inputs))
    facts = {"tract": version(), "device_name": cpu_name(), "compiled": "for each batch size"}
    return Prepared(run, facts)


def _require_order(found: list[str], names: list[str], path: Path) -> None:
    if found != names:
        raise InputError(f"{path}: tract takes {', '.join(found)[:200]}, and the file lists {', '.join(names)[:200]}")


def _fact(shape: tuple[int | None, ...], dtype: str) -> str:
    """A shape and type as tract writes them: "8,32,32,3,f32"."""
    return ",".join([*map(str, shape), _TYPES.get(dtype, dtype)])


RUNTIME = Runtime("tract", ("onnx",), ("cpu",), version, unavailable, prepare)
