"""LiteRT (ai-edge-litert), on the CPU with the XNNPACK delegate: the runtime of TFLite files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime, Watched
from converter.core.errors import InputError
from converter.core.text import first_line


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
    interpreter = _loaded(path)
    invoke = _invoker(interpreter, path, artifact)
    returned = _indices(interpreter.get_output_details(), [spec.name for spec in artifact.outputs], path)

    def run(inputs: Arrays) -> dict[str, Array]:
        invoke(inputs)
        return {name: interpreter.get_tensor(index) for name, index in returned.items()}

    return Prepared(run, {"litert": version(), "delegate": "XNNPACK"})


def tensors(
    path: Path, artifact: Artifact, device: str, wanted: Collection[str] | None, at_once: int
) -> Iterator[Watched]:
    """What nodes of a TFLite file compute, outputs included: one `Watched`, whatever `at_once` says.

    In LiteRT's own kernels: XNNPACK joins operators and then does not tell what is between them. All tensors are in
    memory together, in LiteRT's; one at a time is copied out. Raises what `prepare` raises.
    """
    from ai_edge_litert.interpreter import OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = _loaded(path, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)
    invoke = _invoker(interpreter, path, artifact)
    given = {detail["index"] for detail in interpreter.get_input_details()}
    outputs = {detail["name"] for detail in interpreter.get_output_details()}

    def run(inputs: Arrays) -> Iterator[tuple[str, Array]]:
        invoke(inputs)
        batch = len(next(iter(inputs.values())))
        details = [detail for detail in interpreter.get_tensor_details() if detail["index"] not in given]
        times = Counter(detail["name"] for detail in details)  # LiteRT's scratch tensors share names
        for detail in details:
            name, shape = detail["name"], detail["shape"]
            asked = wanted is None or name in wanted or name in outputs
            if not name or times[name] > 1 or not asked or not len(shape) or shape[0] != batch:
                continue  # a constant, mostly
            try:
                array = interpreter.get_tensor(detail["index"])
            except ValueError:  # nothing is in it
                continue
            yield name, array

    yield run


def _loaded(path: Path, **options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_path=str(path), num_threads=os.cpu_count() or 1, **options)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: LiteRT cannot load it: {first_line(error)}") from error


def _invoker(interpreter: Any, path: Path, artifact: Artifact) -> Callable[[Arrays], None]:
    """A function that sets inputs by name, with whatever batch size they have, and invokes."""
    given = _indices(interpreter.get_input_details(), [spec.name for spec in artifact.inputs], path)
    shapes: dict[str, tuple[int, ...]] = {}

    def invoke(inputs: Arrays) -> None:
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
            raise InputError(f"{path}: LiteRT cannot run it: {first_line(error)}") from error

    return invoke


def _indices(details: list[dict[str, Any]], names: list[str], path: Path) -> dict[str, int]:
    found = {detail["name"]: detail["index"] for detail in details}
    for name in names:
        if name not in found:
            raise InputError(f"{path}: has no tensor called {name}, only {', '.join(sorted(found))[:200]}")
    return {name: found[name] for name in names}


RUNTIME = Runtime("litert", ("tflite",), ("cpu",), version, unavailable, prepare, tensors)
