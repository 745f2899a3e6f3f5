"""What several runtimes need: installed versions, reasons, names paired strictly, and the names in an ONNX file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.core.errors import InputError, UnsafeError

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


def installed(*distributions: str) -> str | None:
    """The version of the first of `distributions` that is installed, or None. Imports nothing of them."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def missing(module: str, extra: str) -> str | None:
    """Why `module` cannot be used, with the extra of cnnexport that installs it, or None. Nothing is imported."""
    if importlib.util.find_spec(module) is None:
        return f'{module} is not installed; pip install "cnnexport[{extra}]"'
    return None


def first_line(error: BaseException | str, limit: int = 300) -> str:
    """The first line of an error that says something, cut to `limit` characters."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), "no reason given")[:limit]


def require_names(path: Path, what: str, declared: Sequence[str], found: Sequence[str]) -> None:
    """Raise InputError unless `found` holds exactly the names of `declared`, each once; `what` is "input" or "output".

    A name that only one side has is never paired by position: that is how outputs get mixed up.
    """
    if sorted(declared) != sorted(found):
        raise InputError(
            f"{path}: its {what}s are {', '.join(sorted(found))[:200] or '(none)'}, "
            f"and the manifest declares {', '.join(sorted(declared))[:200]}"
        )


def onnx_names(path: Path) -> tuple[list[str], list[str]]:
    """The names of an ONNX graph's inputs (without initializers) and outputs, in the file's order.

    Read straight from the protobuf records: no onnx package is needed and no weight is touched. Raises InputError
    where the file is damaged or has no graph.
    """
    with _mapped(path) as (data, size):
        graphs = [(start, end) for number, start, end in _records(data, 0, size) if number == _GRAPH]
        names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _INITIALIZER: []}
        for graph in graphs:
            for number, start, end in _records(data, *graph):
                if number in names:
                    wanted = _TENSOR_NAME if number == _INITIALIZER else _VALUE_NAME
                    names[number] += [
                        bytes(data[a:b]).decode() for each, a, b in _records(data, start, end) if each == wanted
                    ]
    if not graphs:
        raise InputError(f"{path}: not an ONNX file, or damaged (it holds no graph)")
    weights = set(names[_INITIALIZER])
    return [name for name in names[_NODE_INPUT] if name not in weights], names[_NODE_OUTPUT]


def onnx_tensors(path: Path) -> list[str]:
    """The name of every tensor that a node of an ONNX graph computes, in the file's order. Raises InputError."""
    names: list[str] = []
    with _mapped(path) as (data, size):
        for start, end in (record[1:] for record in _records(data, 0, size) if record[0] == _GRAPH):
            for first, last in (record[1:] for record in _records(data, start, end) if record[0] == _NODE):
                found = [bytes(data[a:b]) for each, a, b in _records(data, first, last) if each == _RESULT_NAME]
                names += [name.decode() for name in found if name]
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
                texts = {number: bytes(data[a:b]) for number, a, b in _records(data, start, end)}
                if texts.get(_KEY) == b"location":
                    found.append(texts.get(_TEXT, b"").decode(errors="replace"))
                continue
            inside = _INSIDE[kind]
            pending += [(inside[number], a, b) for number, a, b in _records(data, start, end) if number in inside]
    return found


def more_outputs(names: Sequence[str]) -> bytes:
    """Bytes that, appended to an ONNX file, make the tensors `names` outputs of its graph.

    A protobuf parser merges a message that occurs twice by joining its lists (protobuf.dev, "Encoding", "Last One
    Wins"), so a second graph that holds nothing but outputs adds them; their types are left to be inferred.
    """
    fields = [_framed(_NODE_OUTPUT, _framed(_VALUE_NAME, name.encode())) for name in names]
    return _framed(_GRAPH, b"".join(fields))


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


def _framed(field: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([field << 3 | 2, *length, size]) + content  # wire type 2: length-delimited


def _records(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of every length-delimited record of the message in data[start:end].

    Raises ValueError where a record does not fit.
    """
    while start < end:
        key, start = _varint(data, start)
        wire = key & 7
        if wire == 2:
            length, start = _varint(data, start)
            if start + length > end:
                raise ValueError(f"a record of {length} bytes ends behind the file or its message")
            yield key >> 3, start, start + length
            start += length
        elif wire == 0:
            _, start = _varint(data, start)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} does not exist")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """The number at `at` and where the next one starts. Raises ValueError or IndexError where none is."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number of more than ten bytes")


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def threads() -> int:
    """How many threads a runtime may use: the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
