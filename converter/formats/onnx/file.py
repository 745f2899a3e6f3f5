"""An ONNX file written as a stream: the graph as protobuf, the weights directly from their arrays.

Serializing a whole ModelProto needs the weights in memory three times (arrays, message, bytes). Here only the graph
without the weights is a message; each weight becomes one `initializer` record of a protobuf header and the array's
bytes. Above `SIDECAR_LIMIT` the arrays go to `<file>.data` as ONNX external data. Field numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from converter.core.data import Array
from converter.core.foreign import OnnxModel, OnnxTensor
from converter.core.protobuf import tag, varint
from converter.formats.arrays import write_array

SIDECAR_LIMIT = 1_800_000_000
"""Bytes of weights above which they go to a file beside the model (protobuf ends at 2 GiB)."""

_ALIGNMENT = 4096  # of each tensor in the sidecar, so that it can be mapped into memory
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9


def save(model: OnnxModel, weights: Mapping[str, Array], path: Path, sidecar_limit: int = SIDECAR_LIMIT) -> list[Path]:
    """Write `model`, which has no weights, with each array of `weights` as an initializer of that name.

    Returns the files written. `model` has no graph afterwards. Raises OSError where the disk refuses.
    """
    total = sum(array.nbytes for array in weights.values())
    if total <= sidecar_limit:
        records = [(_tensor_header(name, array), array) for name, array in weights.items()]
        with path.open("wb") as file:
            _write_model(file, model, records)
        return [path]
    sidecar = path.with_name(path.name + ".data")
    headers = []
    with sidecar.open("wb") as file:
        for name, array in weights.items():
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            headers.append((_external_header(name, array, sidecar.name, file.tell()), None))
            write_array(file, array)
    with path.open("wb") as file:
        _write_model(file, model, headers)
    return [path, sidecar]


def _write_model(file: BinaryIO, model: OnnxModel, records: Sequence[tuple[bytes, Array | None]]) -> None:
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    framed = []
    for header, array in records:
        length = len(header) if array is None else len(header) + array.nbytes
        framed.append((tag(_GRAPH_INITIALIZER) + varint(length) + header, array))
    size = len(graph) + sum(len(header) + (0 if array is None else array.nbytes) for header, array in framed)
    file.write(model.SerializeToString())
    file.write(tag(_MODEL_GRAPH) + varint(size) + graph)
    for header, array in framed:
        file.write(header)
        if array is not None:
            write_array(file, array)


def _tensor_header(name: str, array: Array) -> bytes:
    """A TensorProto as bytes, up to the first element of its data."""
    return bytes(_described(name, array).SerializeToString() + tag(_TENSOR_RAW_DATA) + varint(array.nbytes))


def _external_header(name: str, array: Array, location: str, offset: int) -> bytes:
    """A TensorProto as bytes, whose data are in the file `location` from byte `offset` on."""
    tensor = _described(name, array)
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return bytes(tensor.SerializeToString())


def _described(name: str, array: Array) -> OnnxTensor:
    """A TensorProto with the name, shape and type of `array`, without its data."""
    import onnx

    return onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
