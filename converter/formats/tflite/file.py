"""A TFLite file written as a stream: the flatbuffer without the weights, then the weights directly from their arrays.

A flatbuffer's references are offsets that may point to any later byte, so the vectors of the weights can be at the end
of the file: the packed model has a stub for each, and the reference to the stub is changed to the array's position.
Packing 500 MB in Python would need them several times in memory. Layout: flatbuffers' internals document.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from converter.core.data import Array
from converter.core.foreign import FlatbufferObject
from converter.formats.arrays import write_array

_ALIGNMENT = 16  # of a buffer's first byte (schema.fbs: force_align: 16)
_DATA_SLOT = 4  # vtable offset of Buffer.data


def save(model: FlatbufferObject, weights: Mapping[int, Array], path: Path) -> int:
    """Write `model` (ModelT) to `path`, with each array of `weights` as the content of the buffer with that index.

    Returns the size in bytes. Raises OSError where the disk refuses.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    for index in weights:
        model.buffers[index].data = [0]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    content = bytearray(builder.Output())
    packed = schema.Model.GetRootAs(content, 0)
    position = len(content)
    places = {}
    for index, array in weights.items():
        position += -(position + 4) % _ALIGNMENT
        table = packed.Buffers(index)._tab
        field = table.Pos + table.Offset(_DATA_SLOT)
        content[field : field + 4] = (position - field).to_bytes(4, "little")
        places[index] = position
        position += 4 + array.nbytes
    with path.open("wb") as file:
        file.write(content)
        for index, array in weights.items():
            file.write(b"\0" * (places[index] - file.tell()))
            file.write(array.nbytes.to_bytes(4, "little"))
            write_array(file, array)
    return position
