"""A copy of an ONNX file that computes on the CPU what TF32 does to products: their inputs have 10 bits of mantissa.

A GPU with TF32 on rounds the inputs of a product, and adds in float32 (NVIDIA A100 white paper, "TF32"). Here three
nodes before each product round the same inputs by Dekker's splitting (Numerische Mathematik 18, 1971): with
c = 8193 x, the value c - (c - x) is x rounded to 11 significant bits. The rest of the file is copied byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from converter.core.protobuf import Bytes, record, records, varint
from converter.runtimes.shared.onnx_records import copy_sidecar, mapped

PRODUCTS: Mapping[str, int] = {
    "Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": 2, "Einsum": 2, "LSTM": 3, "GRU": 3, "RNN": 3,
}  # fmt: skip
"""The operators whose first inputs are factors of products, and how many of them"""

_SPLITTER = 2.0**13 + 1  # of the 24 significant bits, 24 - 13 = 11 are kept: one before the mantissa and ten in it
_SUFFIX, _CONSTANT = b"/tf32", b"cnnexport/tf32"
_GRAPH = 7  # of ModelProto, as all below in onnx.proto
_NODE, _INITIALIZER = 1, 5
_INPUT, _OUTPUT, _OPERATOR = 1, 2, 4
_DATA_TYPE, _NAME, _RAW = 2, 8, 9


def rounded_copy(path: Path, copy: Path) -> None:
    """Write the copy to `copy`; and copy a sidecar with the weights.

    Raises InputError where the file is missing or damaged, OSError where the copy cannot be written.
    """
    with mapped(path) as (data, size), copy.open("wb") as file:
        done = 0
        for number, start, end in records(data, 0, size):
            if number == _GRAPH:
                graph = b"".join(_graph(data, start, end))
                file.write(data[done : start - len(varint(end - start))] + varint(len(graph)) + graph)
                done = end
        file.write(data[done:size])
    copy_sidecar(path, copy)


def _graph(data: Bytes, start: int, end: int) -> Iterator[bytes]:
    """The records of a GraphProto, with the nodes that round before the first product that needs each."""
    known: set[bytes] = set()
    for number, a, b in records(data, start, end):
        if number != _NODE:
            yield record(number, data[a:b])
            continue
        fields = [(each, bytes(data[c:d])) for each, c, d in records(data, a, b)]
        operator = next((content for each, content in fields if each == _OPERATOR), b"").decode()
        count, place = PRODUCTS.get(operator, 0), 0
        for index, (each, content) in enumerate(fields):
            if each == _INPUT:
                if place < count and content:
                    if content not in known:
                        known.add(content)
                        yield from _rounding(content)
                    fields[index] = (each, content + _SUFFIX)
                place += 1
        yield record(_NODE, b"".join(record(each, content) for each, content in fields))
    tensor = bytes([_DATA_TYPE << 3, 1]) + record(_NAME, _CONSTANT) + record(_RAW, struct.pack("<f", _SPLITTER))
    yield record(_INITIALIZER, tensor)


def _rounding(name: bytes) -> Iterator[bytes]:
    product, rest = name + _SUFFIX + b"/c", name + _SUFFIX + b"/d"
    yield _node(b"Mul", (name, _CONSTANT), product)
    yield _node(b"Sub", (product, name), rest)
    yield _node(b"Sub", (product, rest), name + _SUFFIX)


def _node(operator: bytes, inputs: tuple[bytes, bytes], output: bytes) -> bytes:
    fields = [record(_INPUT, each) for each in inputs]
    return record(_NODE, b"".join([*fields, record(_OUTPUT, output), record(_OPERATOR, operator)]))
