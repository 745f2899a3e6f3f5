"""Reads and writes the wire format of protocol buffers without the protobuf package (protobuf.dev, "Encoding").

Used to inspect or extend a file without parsing its weights. The caller knows the meaning of the fields.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

Bytes = bytes | mmap.mmap
LENGTH_DELIMITED = 2  # wire type of strings, bytes and messages


def tag(field: int) -> bytes:
    """The key of a length-delimited record with field number `field`."""
    return varint(field << 3 | LENGTH_DELIMITED)


def varint(value: int) -> bytes:
    """The non-negative integer `value` in groups of seven bits, lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def record(field: int, content: bytes) -> bytes:
    """A length-delimited record with field number `field`."""
    return tag(field) + varint(len(content)) + content


def records(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of every length-delimited record of the message in data[start:end].

    Raises ValueError if a record does not fit, IndexError if the data end inside a record.
    """
    while start < end:
        key, start = read_varint(data, start)
        wire = key & 7
        if wire == LENGTH_DELIMITED:
            length, start = read_varint(data, start)
            if start + length > end:
                raise ValueError(f"a record of {length} bytes extends beyond its message or the file")
            yield key >> 3, start, start + length
            start += length
        elif wire == 0:
            _, start = read_varint(data, start)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} does not exist")


def read_varint(data: Bytes, at: int) -> tuple[int, int]:
    """The integer at `at` and the position after it. Raises ValueError or IndexError if there is none."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("an integer of more than ten bytes")
