"""What an ONNX file says of itself, read from its protobuf records: names, and where its weights are.

Needs no onnx package and touches no weight, so that a machine that only verifies can do it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.core.errors import InputError, UnsafeError
from converter.core.protobuf import record, records
from converter.core.text import first_line

_GRAPH, _NODE_INPUT, _NODE_OUTPUT, _INITIALIZER, _TENSOR_NAME, _VALUE_NAME = 7, 11, 12, 5, 8, 1  # onnx.proto
_NODE, _RESULT_NAME = 1, 2
_MODEL, _TENSOR, _ENTRY, _KEY, _TEXT = "model", "tensor", "entry", 1, 2
# Where onnx.proto lets a tensor stand that may say where its values are: kind of message, field, kind of what it holds.
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


def onnx_names(path: Path) -> tuple[list[str], list[str]]:
    """The names of an ONNX graph's inputs (without initializers) and outputs, in the file's order.

    Read straight from the protobuf records: no onnx package is needed and no weight is touched. Raises InputError
    where the file is damaged or has no graph.
    """
    with _mapped(path) as (data, size):
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
        raise InputError(f"{path}: not an ONNX file, or damaged (it holds no graph)")
    weights = set(names[_INITIALIZER])
    return [name for name in names[_NODE_INPUT] if name not in weights], names[_NODE_OUTPUT]


def onnx_tensors(path: Path) -> list[str]:
    """The name of every tensor that a node of an ONNX graph computes, in the file's order. Raises InputError."""
    names: list[str] = []
    with _mapped(path) as (data, size):
        for start, end in (found[1:] for found in records(data, 0, size) if found[0] == _GRAPH):
            for first, last in (found[1:] for found in records(data, start, end) if found[0] == _NODE):
                results = [bytes(data[a:b]) for each, a, b in records(data, first, last) if each == _RESULT_NAME]
                names += [name.decode() for name in results if name]
    return names


def require_own_weights(path: Path) -> None:
    """Refuse an ONNX file that reads its weights from anything but the sidecar that is its own, PATH.data.

    Some runtimes follow a path or a link out of the directory. Raises UnsafeError, and InputError where the file is
    damaged or the sidecar missing.
    """
    sidecar = path.with_name(f"{path.name}.data")
    for place in sorted(set(_outside(path))):
        if place != sidecar.name or sidecar.is_symlink():
            where = f"{place[:100]!r}{', a link' if sidecar.is_symlink() else ''}"
            raise UnsafeError(f"{path}: reads weights from {where}\nrefused; an export keeps them in {sidecar.name}")
        if not sidecar.is_file():
            raise InputError(f"{sidecar}: missing, and {path.name} has its weights there")


def _outside(path: Path) -> list[str]:
    """Every location of external data in an ONNX file. Raises InputError."""
    found: list[str] = []
    with _mapped(path) as (data, size):
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


def more_outputs(names: Sequence[str]) -> bytes:
    """Bytes that, appended to an ONNX file, make the tensors `names` outputs of its graph.

    A protobuf parser merges a message that occurs twice by joining its lists (protobuf.dev, "Encoding", "Last One
    Wins"), so a second graph that holds nothing but outputs adds them; their types are left to be inferred.
    """
    fields = [record(_NODE_OUTPUT, record(_VALUE_NAME, name.encode())) for name in names]
    return record(_GRAPH, b"".join(fields))


@contextmanager
def _mapped(path: Path) -> Iterator[tuple[mmap.mmap, int]]:
    """The bytes of an ONNX file and their number; what goes wrong while they are read is an InputError."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data, size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:  # mmap refuses an empty file by ValueError
        raise InputError(f"{path}: not an ONNX file, or damaged ({first_line(error)})") from error
