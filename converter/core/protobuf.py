"""The wire format of protocol buffers, read and written without the protobuf package (protobuf.dev, "Encoding").

Used where a file must be looked at, or extended, without parsing its weights. What the fields mean is the caller's.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

Bytes = bytes | mmap.mmap
LENGTH_DELIMITED = 2  # the wire type of text, bytes, and messages


def tag(field: int) -> bytes:
    """The key of a length-delimited record of field number `field`."""
    return varint(field << 3 | LENGTH_DELIMITED)


def varint(value: int) -> bytes:
    """`value`, not negative, in groups of seven bits, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def record(field: int, content: bytes) -> bytes:
    """A length-delimited record of field number `field`."""
    return tag(field) + varint(len(content)) + content


def records(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of every length-delimited record of the message in data[start:end].

    Raises ValueError where a record does not fit, IndexError where the data end within one.
    """
    while start < end:
        key, start = read_varint(data, start)
        wire = key & 7
        if wire == LENGTH_DELIMITED:
            length, start = read_varint(data, start)
            if start + length > end:
                raise ValueError(f"a record of {length} bytes ends behind the file or its message")
            yield key >> 3, start, start + length
            start += length
        elif wire == 0:
            _, start = read_varint(data, start)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} does not exist")


def read_varint(data: Bytes, at: int) -> tuple[int, int]:
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
