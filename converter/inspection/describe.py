"""`describe`: an artifact in numbers; `difference`: what two artifacts do not have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from converter.core.files import files_under
from converter.inspection import onnx_file, saved_model, tflite_file
from converter.inspection.graph import FileGraph, Value
from converter.inspection.metadata import entries_of, format_of

READERS: dict[str, Callable[[Path], FileGraph]] = {
    "onnx": onnx_file.read,
    "tflite": tflite_file.read,
    "saved-model": saved_model.read,
}
LISTED = 10


@dataclass(frozen=True)
class Weight:
    """A stored tensor."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class Described:
    """An artifact. `inputs` and `outputs` are (name, shape for one image, type).

    `parameters` counts the elements of stored tensors of floating point or of at most 8 bits, `weight_bytes` all stored
    ones by type. `multiply_adds` and `activation_bytes` are for one image, None if a size is unknown. `largest` are the
    largest stored tensors, `costly` the (operation, kind, multiply-adds) that cost most.
    """

    path: str
    format: str
    precision: str
    size: int
    inputs: tuple[tuple[str, tuple[int | None, ...], str], ...]
    outputs: tuple[tuple[str, tuple[int | None, ...], str], ...]
    operators: Mapping[str, int]
    parameters: int
    weight_bytes: Mapping[str, int]
    multiply_adds: int | None
    activation_bytes: int | None
    largest: tuple[Weight, ...]
    costly: tuple[tuple[str, str, int], ...]
    metadata: Mapping[str, str]
    facts: Mapping[str, str]


def describe(path: Path) -> Described:
    """What the artifact `path` is made of: a .onnx or .tflite file, or a SavedModel.

    Raises InputError for anything else and for a damaged file, UnsafeError for a SavedModel that accesses files,
    UnavailableError where the package that reads the format is missing.
    """
    form = format_of(path)
    metadata = entries_of(path)
    graph = READERS[form](path)
    weights = graph.weights
    by_type: Counter[str] = Counter()
    for each in weights:
        by_type[each.dtype] += each.bytes or 0
    costly = sorted(graph.operations, key=lambda each: -(each.multiply_adds or 0))[:LISTED]
    return Described(
        path=str(path),
        format=form,
        precision=_precision(by_type),
        size=_size(path),
        inputs=tuple(map(_line, graph.inputs)),
        outputs=tuple(map(_line, graph.outputs)),
        operators=graph.operators,
        parameters=sum(each.elements or 0 for each in weights if _is_weight(each)),
        weight_bytes=dict(sorted(by_type.items())),
        multiply_adds=graph.multiply_adds,
        activation_bytes=graph.activation_bytes,
        largest=tuple(
            Weight(_bare(each.name), each.shape or (), each.dtype, each.bytes or 0) for each in weights[:LISTED]
        ),
        costly=tuple((each.name, each.kind, each.multiply_adds) for each in costly if each.multiply_adds),
        metadata=metadata,
        facts=graph.facts,
    )


def difference(one: Described, other: Described) -> dict[str, tuple[object, object]]:
    """What differs, by name: the values of `one` and of `other`. Paths are left out; operators are single entries."""
    found: dict[str, tuple[object, object]] = {}
    names = (
        "format", "precision", "size", "inputs", "outputs", "parameters", "multiply_adds", "activation_bytes", "facts",
    )  # fmt: skip
    for name in names:
        pair = getattr(one, name), getattr(other, name)
        if pair[0] != pair[1]:
            found[name] = pair
    for title in ("operators", "weight_bytes", "metadata"):
        left, right = getattr(one, title), getattr(other, title)
        for key in sorted({*left, *right}):
            if left.get(key) != right.get(key):
                found[f"{title}: {key}"] = left.get(key), right.get(key)
    return found


def _precision(by_type: Mapping[str, int]) -> str:
    """The type that most bytes of weights have, "none" without weights."""
    weights = {
        name: size for name, size in by_type.items() if not name.startswith(("int64", "int32", "bool", "string"))
    }
    return max(weights, key=lambda name: weights[name]) if weights else "none"


def _is_weight(value: Value) -> bool:
    return value.dtype.startswith(("float", "bfloat", "int8", "uint8", "int4", "uint4"))


def _size(path: Path) -> int:
    if path.is_dir():
        return sum((path / name).stat().st_size for name in files_under(path, path))
    data = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (data.stat().st_size if data.is_file() else 0)


def _line(value: Value) -> tuple[str, tuple[int | None, ...], str]:
    return _bare(value.name), value.shape or (), value.dtype


def _bare(name: str) -> str:
    """The name without the number that keeps equal names apart."""
    return name.rpartition("#")[0] or name
