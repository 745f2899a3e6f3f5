"""tract, an inference engine in Rust, on the CPU: reads ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError
from converter.core.foreign import Session
from converter.core.text import first_line
from converter.runtimes.shared.installed import cpu_name, installed, missing
from converter.runtimes.shared.names import onnx_interface

_TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "int32": "i32", "int64": "i64", "uint8": "u8"}


def version() -> str | None:
    """The installed version, or None."""
    return installed("tract")


def unavailable(device: str) -> str | None:
    """Why tract cannot run on `device` here, or None. tract itself is not imported."""
    return "tract runs on the CPU only" if device != "cpu" else missing("tract", "cnnexport[tract]")


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load an ONNX file; tract names outputs after their nodes, so they are paired by their order in the file.

    tract compiles a model for fixed sizes, again whenever they change; the first compilation is part of loading where
    only the batch is dynamic. Raises InputError where tract refuses the file or a name differs.
    """
    import tract

    inputs, outputs = onnx_interface(path, artifact)
    compiled: dict[tuple[str, ...], Session] = {}

    def compile_for(sizes: tuple[str, ...]) -> Session:
        if sizes not in compiled:
            compiled.clear()  # one at a time: each has its own copy of the weights
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

    if all(None not in spec.shape[1:] for spec in artifact.inputs):
        one = {spec.name: _fact((spec.shape[0] or 1, *spec.shape[1:]), spec.dtype) for spec in artifact.inputs}
        compile_for(tuple(one[name] for name in inputs))
    return Prepared(run, {"tract": version(), "device_name": cpu_name(), "compiled": "for each batch size"})


def _require_order(found: list[str], names: list[str], path: Path) -> None:
    if found != names:
        raise InputError(
            f"{path}: tract takes {', '.join(found)[:200]}, but the order in the file is {', '.join(names)[:200]}"
        )


def _fact(shape: tuple[int | None, ...], dtype: str) -> str:
    """A shape and a type in tract's notation: "8,32,32,3,f32"."""
    return ",".join([*map(str, shape), _TYPES.get(dtype, dtype)])


RUNTIME = Runtime("tract", ("onnx",), ("cpu",), version, unavailable, prepare)
