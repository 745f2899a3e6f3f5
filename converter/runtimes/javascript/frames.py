"""Arrays by name between Python and JavaScript, and where its packages are. The other end: web/frame.mjs.

A frame is the length of its header and of its body (two little-endian uint32), the header (JSON), the body (the
arrays, one after another, each padded to 8 bytes).
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from converter.core.data import Array, Arrays
from converter.core.errors import ChildError

WEB = Path(__file__).with_name("web")
"""The scripts and the page."""

MODULES_VARIABLE = "CNNEXPORT_NODE_MODULES"
_TYPES = {"float32", "float64", "float16", "int8", "uint8", "bool", "int32", "int64"}


def modules_directory(package: str) -> Path | None:
    """The node_modules directory that holds `package`, or None.

    $CNNEXPORT_NODE_MODULES alone where it is set; else ./node_modules, then the user's cache directory.
    """
    chosen = os.environ.get(MODULES_VARIABLE)
    candidates = [Path(chosen)] if chosen else [Path("node_modules"), cache_directory() / "node_modules"]
    return next((each.resolve() for each in candidates if (each / package / "package.json").is_file()), None)


def cache_directory() -> Path:
    """The user's cache directory of cnnexport, by the XDG rule; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "cnnexport"


def package_version(package: str) -> str | None:
    """The version of a Node.js package, or None where it is not found."""
    modules = modules_directory(package)
    if modules is None:
        return None
    try:
        described = json.loads((modules / package / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(described.get("version", "")) or None


def missing_package(package: str) -> str | None:
    """Why a Node.js package cannot be used, with what to do, or None."""
    if modules_directory(package) is None:
        return f"npm package {package} not found; npm install --ignore-scripts {package} (or set ${MODULES_VARIABLE})"
    return None


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


def decode(frame: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a frame. Raises ChildError where it is not one."""
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
        raise ChildError(f"what JavaScript answered is no frame: {error}") from error
    return header, arrays


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame of `stream`, or None where it ends before one is complete."""
    start = stream.read(8)
    if len(start) < 8:
        return None
    rest = sum(struct.unpack("<II", start))
    body = stream.read(rest)
    return start + body if len(body) == rest else None
