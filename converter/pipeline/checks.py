"""Checks of single arguments: paths, names, whole numbers, flags, choices. Each raises UsageError, which names it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import cast

from converter.core.errors import UsageError


def path_of(value: object, name: str) -> Path:
    """`value`, a string or a path, as a Path. Raises UsageError, naming the argument `name`, for any other type."""
    if not isinstance(value, str | PathLike) or not fspath(value):
        raise UsageError(f"{name}: expected a path, not {type_name(value) if value != '' else 'an empty string'}")
    text = fspath(value)
    if not isinstance(text, str) or "\0" in text:
        raise UsageError(f"{name}: expected a path as a string without NUL characters")
    return Path(text)


def names_in(value: object, name: str) -> tuple[str, ...]:
    """The names in `value`: a string, with commas between several names, or a list of such strings.

    Raises UsageError for anything else.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise UsageError(f"{name}: expected a name or a list of names, not {type_name(value)}")
    texts = list(texts)
    wrong = [each for each in texts if not isinstance(each, str)]
    if wrong:
        raise UsageError(f"{name}: expected names, but one of them is {type_name(wrong[0])}")
    return tuple(part.strip() for text in texts for part in cast(str, text).split(",") if part.strip())


def refuse_unknown(keywords: Collection[str], known: type, function: str) -> None:
    """Raise UsageError for a keyword that is not in the TypedDict `known`, the keywords of `function`."""
    names = known.__annotations__
    for name in keywords:
        if name not in names:
            guess = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f"did you mean {guess[0]}? " if guess else ""
            raise UsageError(f"{name}: not an argument of {function}()\n{hint}choose from {', '.join(names)}")


def require_whole(name: str, value: object, at_least: int) -> None:
    """Raise UsageError, naming the argument `name`, unless `value` is a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name}: expected a whole number, not {type_name(value)}")
    if value < at_least:
        raise UsageError(f"--{name} {value}: must be at least {at_least}")


def require_flag(name: str, value: object) -> None:
    """Raise UsageError, naming the argument `name`, unless `value` is True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name}: expected True or False, not {type_name(value)}")


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise UsageError, naming the argument `name`, unless `value` is one of `choices`."""
    if value not in choices:
        raise UsageError(f"--{name} {value}: choose from {', '.join(choices)}")


def type_name(value: object) -> str:
    """What a message calls the type of `value`."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
