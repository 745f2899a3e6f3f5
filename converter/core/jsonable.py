"""Conversion of values to JSON, as the same strict text everywhere, and reading of JSON with checked types."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePath

import numpy as np

from converter.core.errors import InputError
from converter.core.foreign import Default, Json, JsonObject
from converter.core.text import COMMAND, one_line

MISSING: Default = object()
MAX_DEPTH = 64  # of nested lists and objects
LARGEST = 2**63 - 1  # integer; larger ones cannot be converted to float, nor used as sizes
KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def plain(value: object) -> Json:
    """`value` as dicts with string keys, lists, strings, numbers, booleans and None.

    Dataclasses become dicts (without fields that have "json": False in their metadata), arrays and tuples become lists,
    sets sorted lists, numpy scalars numbers, and paths strings in POSIX form. JSON has no NaN and no infinities; they
    become the strings "nan", "inf" and "-inf". Raises TypeError for any other value.
    """
    if value is None or isinstance(value, str | bool):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = (each.name for each in dataclasses.fields(value) if each.metadata.get("json", True))
        return {name: plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return [plain(each) for each in sorted(value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def dumps(value: object) -> str:
    """`plain(value)` as ASCII text with sorted keys, an indent of two, and a newline at the end.

    Text that a CI would read as a command in its log ("##[error]") is written with an escape; it reads back unchanged.
    """
    text = json.dumps(plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n"
    return COMMAND.sub(r"#\\u0023", text)


def read_json(path: Path, most_bytes: int, what: str) -> Json:
    """The JSON value in the untrusted file `path`, with limits on size and depth, and without NaN and infinities.

    Raises InputError with a message that starts with the path; `what` describes the expected file.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise InputError(f"{path}: larger than {most_bytes >> 20} MB, so it is not {what}")
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({one_line(error, 120)}), so it is not {what}") from error
    if _nested_deeper(value, MAX_DEPTH):
        raise InputError(f"{path}: nested deeper than {MAX_DEPTH} levels, so it is not {what}")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _nested_deeper(value: Json, levels: int) -> bool:
    """Whether lists and objects are nested deeper than `levels`; writing a report recurses into each level."""
    inside = [value]
    for _ in range(levels):
        inside = [
            each
            for outer in inside
            if isinstance(outer, (list, dict))
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(inside)


class Fields:
    """A JSON object whose fields are read with checked types; `where` names it in messages."""

    def __init__(self, value: Json, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected an object; export the model again")
        self.value: JsonObject = value
        self.where = where

    def wrong(self, key: str, expected: str) -> InputError:
        """The error for a field `key` with a wrong value."""
        return InputError(f"{self.where}: {key}: expected {expected}; export the model again")

    def get(self, key: str, kind: type | tuple[type, ...], default: Default = MISSING) -> Json:
        """The field `key`, an instance of `kind`. Raises InputError for another type.

        With a `default` the field may be missing or null.
        """
        if self.value.get(key) is None and default is not MISSING:
            return default
        found = self.value.get(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            raise self.wrong(key, KINDS[kinds[-1]] if key in self.value else f"{KINDS[kinds[-1]]}, but it is missing")
        if isinstance(found, int) and abs(found) > LARGEST:
            raise self.wrong(key, f"{KINDS[kinds[-1]]} of at most 64 bits")
        return found

    def fields(self, key: str) -> dict[str, Fields]:
        """The field `key`, an object whose values are objects."""
        return {name: Fields(each, f"{self.where}: {key}[{name!r}]") for name, each in self.get(key, dict).items()}

    def items(self, key: str, default: Default = MISSING) -> list[Fields]:
        """The field `key`, a list of objects."""
        found = self.get(key, list, default)
        return [Fields(each, f"{self.where}: {key}[{index}]") for index, each in enumerate(found)]

    def strings(self, key: str) -> tuple[str, ...]:
        """The field `key`, a list of strings; empty if it is missing or null."""
        found = self.value.get(key) or []
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.wrong(key, "a list of strings")
        return tuple(found)
