"""An ONNX file read from its protobuf records: names of tensors, and where its weights are; and copies of the file.

Needs no onnx package and reads no weight, so that an installation that only verifies can use it.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.core.errors import InputError, UnsafeError
from converter.core.protobuf import record, records
from converter.core.text import first_line

# field numbers of onnx.proto
_GRAPH, _NODE_INPUT, _NODE_OUTPUT, _INITIALIZER, _TENSOR_NAME, _VALUE_NAME = 7, 11, 12, 5, 8, 1
_NODE, _RESULT_NAME = 1, 2
_METADATA = 14
_MODEL, _TENSOR, _ENTRY, _KEY, _TEXT = "model", "tensor", "entry", 1, 2
_INSIDE = {
    _MODEL: {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
"""The fields in which onnx.proto allows a tensor with external data: by kind of message, the kind of each field"""


def onnx_names(path: Path) -> tuple[list[str], list[str]]:
    """The names of an ONNX graph's inputs (without initializers) and outputs, in the file's order.

    Raises InputError where the file is missing, damaged or has no graph.
    """
    with mapped(path) as (data, size):
        graphs = [(start, end) for number, start, end in records(data, 0, size) if number == _GRAPH]
        names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _INITIALIZER: []}
        for graph in graphs:
            for number, start, end in records(data, *graph):
                if number in names:
                    wanted = _TENSOR_NAME if number == _INITIALIZER else _VALUE_NAME
                    names[number] += [
                        bytes(data[a:b]).decode() for each, a, b in records(data, start, end) if each == wanted
                    ]
    if not graphs:
        raise InputError(f"{path}: not an ONNX file, or damaged (it has no graph)")
    weights = set(names[_INITIALIZER])
    return [name for name in names[_NODE_INPUT] if name not in weights], names[_NODE_OUTPUT]


def onnx_tensors(path: Path) -> list[str]:
    """The name of every tensor that a node of an ONNX graph computes, in the file's order.

    Raises InputError where the file is missing or damaged.
    """
    names: list[str] = []
    with mapped(path) as (data, size):
        for start, end in (found[1:] for found in records(data, 0, size) if found[0] == _GRAPH):
            for first, last in (found[1:] for found in records(data, start, end) if found[0] == _NODE):
                results = [bytes(data[a:b]) for each, a, b in records(data, first, last) if each == _RESULT_NAME]
                names += [name.decode() for name in results if name]
    return names


def require_own_weights(path: Path) -> None:
    """Refuse an ONNX file that reads weights from any file but its own sidecar, PATH.data.

    Some runtimes follow a path or a link out of the directory. Raises UnsafeError, and InputError where the file is
    damaged or the sidecar is missing.
    """
    sidecar = _sidecar_path(path)
    for place in sorted(set(_outside(path))):
        if place != sidecar.name or sidecar.is_symlink():
            where = f"{place[:100]!r}{', a link' if sidecar.is_symlink() else ''}"
            raise UnsafeError(f"{path}: reads weights from {where}\nrefused; an export has them in {sidecar.name}")
        if not sidecar.is_file():
            raise InputError(f"{sidecar}: missing, but {path.name} has its weights there")


def sidecar_of(path: Path) -> Path | None:
    """The file with the weights of an ONNX file that is above 1.8 GB, or None if it has no such file."""
    sidecar = _sidecar_path(path)
    return sidecar if sidecar.is_file() else None


def copy_onnx(path: Path, copy: Path) -> None:
    """Copy an ONNX file to `copy`, and its sidecar, if it has one, under the same name to the same directory."""
    shutil.copyfile(path, copy)
    copy_sidecar(path, copy)


def copy_sidecar(path: Path, copy: Path) -> None:
    """Copy the sidecar of an ONNX file, if it has one, beside `copy`: onnxruntime follows no link out of there."""
    sidecar = sidecar_of(path)
    if sidecar is not None:
        shutil.copyfile(sidecar, copy.with_name(sidecar.name))


def more_outputs(names: Sequence[str]) -> bytes:
    """Bytes that, appended to an ONNX file, make the tensors `names` outputs of its graph.

    A protobuf parser merges a message that occurs twice by joining its lists (protobuf.dev, "Encoding", "Last One
    Wins"), so a second graph with nothing but outputs adds them; the runtime infers their types.
    """
    fields = [record(_NODE_OUTPUT, record(_VALUE_NAME, name.encode())) for name in names]
    return record(_GRAPH, b"".join(fields))


def _sidecar_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def _outside(path: Path) -> list[str]:
    """Every location of external data in an ONNX file. Raises InputError."""
    found: list[str] = []
    with mapped(path) as (data, size):
        pending = [(_MODEL, 0, size)]
        while pending:
            kind, start, end = pending.pop()
            if kind == _ENTRY:
                texts = {number: bytes(data[a:b]) for number, a, b in records(data, start, end)}
                if texts.get(_KEY) == b"location":
                    found.append(texts.get(_TEXT, b"").decode(errors="replace"))
                continue
            inside = _INSIDE[kind]
            pending += [(inside[number], a, b) for number, a, b in records(data, start, end) if number in inside]
    return found


@contextmanager
def mapped(path: Path) -> Iterator[tuple[mmap.mmap, int]]:
    """The bytes of an ONNX file and their number; errors while they are read become InputError."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data, size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:  # mmap raises ValueError for an empty file
        raise InputError(f"{path}: not an ONNX file, or damaged ({first_line(error)})") from error


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata_props of an ONNX file. Raises InputError where the file is missing or damaged."""
    found: dict[str, str] = {}
    with mapped(path) as (data, size):
        for number, start, end in records(data, 0, size):
            if number == _METADATA:
                texts = {each: bytes(data[a:b]).decode(errors="replace") for each, a, b in records(data, start, end)}
                found[texts.get(_KEY, "")] = texts.get(_TEXT, "")
    return found
