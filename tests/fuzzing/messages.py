"""Seeded changes of protocol buffers that stay protocol buffers: ONNX files and SavedModels with other fields."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from mutations import NUMBERS, TEXTS, changed_bytes


def changed_message(new: Callable[[], Any]) -> Callable[[bytes, random.Random], bytes]:
    """A change of a file that is a message of the kind that `new` makes; in one of four, of its bytes."""

    def change(content: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.25:
            return changed_bytes(content, rng)
        message = new()
        message.ParseFromString(content)
        for _ in range(rng.choice((1, 1, 2, 4))):
            places = list(_fields(message))
            if places:
                _once(*rng.choice(places), rng)
        return bytes(message.SerializeToString())

    return change


def _fields(message: Any) -> Iterator[tuple[Any, Any]]:
    """Every set field of a message and of those in it, each with the message that it is a field of."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            nested = list(value.values()) if inner.type == field.TYPE_MESSAGE else []
        else:
            yield message, field
            many = not hasattr(value, "ListFields")
            nested = ([*value] if many else [value]) if field.type == field.TYPE_MESSAGE else []
        for each in nested:
            yield from _fields(each)


def _once(message: Any, field: Any, rng: random.Random) -> None:
    value = getattr(message, field.name)
    many = not isinstance(value, int | float | str | bytes) and not hasattr(value, "ListFields")
    how = rng.randrange(4)
    if how == 0 or (field.type == field.TYPE_MESSAGE and not many):
        message.ClearField(field.name)
    elif many and field.type == field.TYPE_MESSAGE:
        if how == 1:
            value.add().CopyFrom(rng.choice(value))
        elif how == 2:
            del value[rng.randrange(len(value)) :]
        else:
            rng.choice(value).Clear()
    else:
        new = _other(field, rng)
        try:
            if not many:
                setattr(message, field.name, new)
            elif how == 1:
                value.append(new)
            else:
                value[rng.randrange(len(value))] = new
        except (TypeError, ValueError, OverflowError):  # out of the range of the field, or no UTF-8
            message.ClearField(field.name)


def _other(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 4, 64, 4096)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return float(rng.choice(NUMBERS))
    return int(rng.choice((-1, 0, 1, 2, 7, 255, 2**31 - 1, -(2**31), 2**62)))
