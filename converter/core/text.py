"""Text that others wrote (names in a model, what a library says) made fit for a line that people and machines read."""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
COMMAND = re.compile(r"##(?=\w*\[)")
LINE_LENGTH = 500  # of an error: a long path and its reason
NO_REASON = "no reason given"


def clean(text: str, limit: int) -> str:
    """`text` fit for one line of a terminal: no escape sequences, control or invisible formatting characters.

    Runs of space become one space. What is longer than `limit` ends in an ellipsis.
    """
    text = ESCAPES.sub("", text[: 16 * limit])
    kept = (" " if unicodedata.category(each)[0] in "CZ" else each for each in text)
    return shorten(" ".join("".join(kept).split()), limit)


def shorten(text: str, limit: int) -> str:
    """`text`, or its beginning and an ellipsis, `limit` characters in all."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def inert(line: str) -> str:
    """`line`, changed by a space where a CI that reads logs would take it for a command.

    GitHub Actions obeys a line that begins with "::", behind spaces too, and "##[" anywhere in it (actions/runner,
    ActionCommand.cs); Azure Pipelines and TeamCity obey "##vso[" and "##teamcity[".
    """
    bare = line.lstrip()
    if bare.startswith("::"):
        line = f"{line[: len(line) - len(bare)]}: {bare[1:]}"
    return COMMAND.sub("# #", line)


def reason_of(error: BaseException) -> str:
    """The class and the text of an error on one line, without the stack that TensorFlow writes in the middle of it."""
    lines = _lines(_text_of(error))
    frames = [number for number, line in enumerate(lines) if line.startswith('File "')]
    return f"{type(error).__name__}: {' '.join(lines[frames[-1] + 1 :] if frames else lines)[:300]}"


def first_line(error: BaseException | str, limit: int = 300) -> str:
    """The first line of an error that says something, cut to `limit` characters."""
    return next(iter(_lines(_text_of(error))), NO_REASON)[:limit]


def last_line(text: str, limit: int = 300) -> str:
    """The last line of `text` that says something, cut to `limit` characters; "" where none does."""
    return (_lines(text) or [""])[-1][:limit]


def one_line(error: object, limit: int = 200) -> str:
    """The whole text of an error on one line of at most `limit` characters."""
    return shorten(" ".join(_text_of(error).split()), limit)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _text_of(error: object) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  an exception of the user's own may have no text
        return NO_REASON


def printable(message: str) -> str:
    """An error's message, whose lines stay lines: each `clean` and `inert`, and cut in its middle where it is long."""
    lines = (line if len(line) <= LINE_LENGTH else _ends(line) for line in message.splitlines())
    return "\n".join(inert(clean(line, LINE_LENGTH)) for line in lines)


def _ends(line: str) -> str:
    """Where it happened stands at the beginning of a line, why at its end."""
    head = LINE_LENGTH * 3 // 5
    return f"{line[:head]} … {line[3 + head - LINE_LENGTH :]}"
