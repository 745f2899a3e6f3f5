"""Seeded changes of files: of their bytes, of the JSON or TOML values in them, and of the members of archives."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

NUMBERS = (
    0,
    1,
    -1,
    2**31 - 1,
    2**31,
    -(2**31),
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
)
TEXTS = (
    "", "\0", "\n", "\x1b[31mred", "::error::", "../../outside", "/etc/passwd", "a" * 70_000, "ä\u202e", "\ud800",
    "__class__", "..\\..\\x", "con", "%s%n", "${HOME}", "'; rm -rf /", "saved_model/../../x", "float33", "model.onnx",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": {"b": {}}}, [None] * 50)


def flipped(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def removed(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 4, 64, 4096))]


def inserted(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.choice((1, 4, 64, 4096)))


def doubled(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((4, 64, 4096))]
    data[start:start] = piece * rng.choice((1, 2, 50))


def overwritten(data: bytearray, rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    if len(data) < width:
        return
    start = rng.randrange(len(data) - width + 1)
    data[start : start + width] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * width


def zeroed(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    length = min(rng.choice((16, 256, 4096)), len(data) - start)
    data[start : start + length] = bytes(length)


BYTE_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flipped, cut, removed, inserted, doubled, overwritten, zeroed,
)  # fmt: skip


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """`content` after one to three changes of its bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(BYTE_CHANGES)(data, rng)
    return bytes(data)


def changed_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one to three places replaced, removed, repeated or nested."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _once(value, rng)
    return value


def hostile(rng: random.Random) -> Any:
    kind = rng.randrange(4)
    if kind == 3:
        nested: Any = rng.choice(TEXTS)
        for _ in range(rng.choice((3, 150, 400))):
            nested = [nested] if rng.random() < 0.5 else {"config": nested}
        return nested
    return rng.choice((NUMBERS, TEXTS, OTHERS)[kind])


def _once(value: Any, rng: random.Random) -> Any:
    holders: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for key, inner in one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ():
            holders.append((one, key))
            if isinstance(inner, dict | list):
                waiting.append(inner)
    if not holders:
        return hostile(rng)
    holder, key = rng.choice(holders)
    how = rng.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 3, 300)))
    elif how == 2 and isinstance(holder, dict):
        holder[str(hostile(rng))[:100]] = holder[key]
    elif how == 3:
        other, place = rng.choice(holders)
        holder[key] = json.loads(json.dumps(other[place] if _has(other, place) else None))
    elif how == 4 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = rng.choice(NUMBERS)
    else:
        holder[key] = hostile(rng)
    return value


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON document with other values, or in one of four with other bytes."""
    if rng.random() < 0.25:
        return changed_bytes(content, rng)
    return json.dumps(changed_value(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def changed_archive(content: bytes, rng: random.Random) -> bytes:
    """A zip archive with a changed, renamed, repeated, added or missing member, or with other bytes."""
    if rng.random() < 0.25:
        return changed_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = rng.randrange(len(members))
    name, inner = members[place]
    how = rng.randrange(8)
    if how == 0:
        del members[place]
    elif how == 1:
        members.append((rng.choice(TEXTS) or "x", inner))
    elif how == 2:
        members[place] = (rng.choice(("../x", "/x", name.upper(), name + "x", name.replace(".", "/"))), inner)
    elif how == 3:
        members.append((name, changed_bytes(inner, rng)))
    elif name.endswith(".json"):
        members[place] = (name, changed_json(inner, rng))
    else:
        members[place] = (name, changed_bytes(inner, rng))
    stream = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", method) as archive:
        for title, data in members:
            archive.writestr(zipfile.ZipInfo(title[:60_000].encode("utf-8", "replace").decode()), data, method)
    return stream.getvalue()
