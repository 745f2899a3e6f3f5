"""Arrays by name between Python and JavaScript, as frames of bytes. The JavaScript end is web/frame.mjs.

A frame is the length of its header and of its body (two little-endian uint32), the header (JSON), the body (the
arrays, one after another, each padded to 8 bytes).
"""

from __future__ import annotations

import json
import math
import struct
from typing import IO

import numpy as np

from converter.core.data import Array, Arrays
from converter.core.errors import ChildError
from converter.core.foreign import JsonObject

_TYPES = {"float32", "float64", "float16", "int8", "uint8", "bool", "int32", "int64"}


def encode(arrays: Arrays) -> bytes:
    """The frame of `arrays`. Raises ChildError for a dtype that JavaScript has no array for."""
    described, body = [], bytearray()
    for name, array in arrays.items():
        if str(array.dtype) not in _TYPES:
            raise ChildError(f"input {name}: JavaScript has no array for {array.dtype}")
        described.append({"name": name, "dtype": str(array.dtype), "dims": list(array.shape)})
        body += np.ascontiguousarray(array).tobytes()
        body += b"\0" * (-len(body) % 8)
    header = json.dumps({"tensors": described}).encode()
    return struct.pack("<II", len(header), len(body)) + header + body


def decode(frame: bytes) -> tuple[JsonObject, dict[str, Array]]:
    """The header and the arrays of a frame. Raises ChildError for bytes that are not a frame."""
    try:
        header_length, body_length = struct.unpack_from("<II", frame)
        header = json.loads(frame[8 : 8 + header_length])
        body = frame[8 + header_length :]
        if len(body) != body_length:
            raise ValueError(f"{len(body)} bytes instead of {body_length}")
        arrays, offset = {}, 0
        for tensor in header["tensors"]:
            if tensor["dtype"] not in _TYPES:
                raise ValueError(f"dtype {tensor['dtype']}")
            count, dtype = math.prod(tensor["dims"]), np.dtype(tensor["dtype"])
            flat: Array = np.frombuffer(body, dtype, count, offset)
            arrays[str(tensor["name"])] = flat.reshape(tensor["dims"])
            offset += -(-count * dtype.itemsize // 8) * 8
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ChildError(f"the answer of JavaScript is not a frame: {error}") from error
    return header, arrays


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame of `stream`, or None if the stream ends before a frame is complete."""
    start = stream.read(8)
    if len(start) < 8:
        return None
    rest = sum(struct.unpack("<II", start))
    body = stream.read(rest)
    return start + body if len(body) == rest else None
