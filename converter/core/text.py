"""Makes untrusted text (names in a model, messages of a library) safe to print in terminals and logs."""

from __future__ import annotations

import re
import unicodedata

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
COMMAND = re.compile(r"##(?=\w*\[)")
LINE_LENGTH = 500  # of an error message: room for a long path and the reason
NO_REASON = "no reason given"


def clean(text: str, limit: int) -> str:
    """`text` for one line of a terminal: no escape sequences, control characters or invisible formatting characters.

    Each run of whitespace becomes one space. Text longer than `limit` is cut and ends in an ellipsis.
    """
    text = ESCAPES.sub("", text[: 16 * limit])
    kept = (" " if unicodedata.category(each)[0] in "CZ" else each for each in text)
    return shorten(" ".join("".join(kept).split()), limit)


def shorten(text: str, limit: int) -> str:
    """`text`, or its beginning and an ellipsis, at most `limit` characters."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def inert(line: str) -> str:
    """`line`, with a space inserted where a CI that reads logs would interpret it as a command.

    GitHub Actions executes a line that starts with "::", also after spaces, and "##[" anywhere in it (actions/runner,
    ActionCommand.cs); Azure Pipelines and TeamCity execute "##vso[" and "##teamcity[".
    """
    bare = line.lstrip()
    if bare.startswith("::"):
        line = f"{line[: len(line) - len(bare)]}: {bare[1:]}"
    return COMMAND.sub("# #", line)


def reason_of(error: BaseException) -> str:
    """The class and the text of an error in one line, without the stack that TensorFlow writes into the text."""
    lines = _lines(_text_of(error))
    frames = [number for number, line in enumerate(lines) if line.startswith('File "')]
    return f"{type(error).__name__}: {' '.join(lines[frames[-1] + 1 :] if frames else lines)[:300]}"


def first_line(error: BaseException | str, limit: int = 300) -> str:
    """The first non-empty line of an error, cut to `limit` characters."""
    return next(iter(_lines(_text_of(error))), NO_REASON)[:limit]


def last_line(text: str, limit: int = 300) -> str:
    """The last non-empty line of `text`, cut to `limit` characters; "" if there is none."""
    return (_lines(text) or [""])[-1][:limit]


def one_line(error: object, limit: int = 200) -> str:
    """The whole text of an error in one line of at most `limit` characters."""
    return shorten(" ".join(_text_of(error).split()), limit)


def place_of(runtime: str, device: str) -> str:
    """The runtime, and the device if it is another than the CPU, as one name."""
    return runtime if device == "cpu" else f"{runtime} on {device}"


def run_name(form: str, precision: str, runtime: str, device: str) -> str:
    """The name of an artifact of the format `form` in a runtime, as in "onnx float16 in onnxruntime on cuda"."""
    return f"{form}{'' if precision == 'float32' else f' {precision}'} in {place_of(runtime, device)}"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _text_of(error: object) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  str() of a user-defined exception may fail
        return NO_REASON


def printable(message: str) -> str:
    """An error message line by line: each line `clean` and `inert`, long lines shortened in the middle."""
    lines = (line if len(line) <= LINE_LENGTH else _shorten_middle(line) for line in message.splitlines())
    return "\n".join(inert(clean(line, LINE_LENGTH)) for line in lines)


def _shorten_middle(line: str) -> str:
    """The beginning and the end of a long line: messages name the place at the beginning and the reason at the end."""
    head = LINE_LENGTH * 3 // 5
    return f"{line[:head]} … {line[3 + head - LINE_LENGTH :]}"
