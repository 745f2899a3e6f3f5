"""What a user's text can mean, and what they may have meant instead. Standard library and the zoo's table only."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from zoo import MODELS

Kind = Literal["zoo", "file", "keras", "function", "unknown"]

FILE_SUFFIXES = (".keras", ".h5", ".hdf5", ".hdf", ".he5", ".weights")
KERAS_PREFIX = "keras:"
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def known_names() -> list[str]:
    """The names of the zoo, in its order."""
    return list(MODELS)


def zoo_table() -> list[dict[str, Any]]:
    """One row for each architecture of the zoo: name, input_shape (H, W, C), classes, parameters, outputs (names)."""
    return [
        {
            "name": spec.name,
            "input_shape": list(spec.input_shape),
            "classes": spec.classes,
            "parameters": spec.parameters,
            "outputs": list(spec.outputs),
        }
        for spec in MODELS.values()
    ]


def kind_of(text: str) -> Kind:
    """Which kind of source `text` names. A zoo name wins over a file of that name; write `./name` for the file."""
    if text in MODELS:
        return "zoo"
    if text.startswith(KERAS_PREFIX):
        return "keras"
    if Path(text).suffix.lower() in FILE_SUFFIXES:
        return "file"
    if FUNCTION.fullmatch(text):
        return "function"
    if "/" in text or "\\" in text or (text and os.path.exists(text)):  # noqa: PTH110
        return "file"
    return "unknown"


def is_file(path: str | Path) -> bool:
    """Whether `path` is a file; False, too, for what is no path: `Path.is_file` raises where a name is too long."""
    return os.path.isfile(path)  # noqa: PTH113


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` was most likely meant to be, or ""."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else ""


def directory_name(text: str) -> str:
    """`text` as a directory name: letters, digits, dot, dash and underscore, never empty, never hidden."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    return clean[:80] or "model"


def one_line(error: object, limit: int = 200) -> str:
    """The text of an error on one line of at most `limit` characters."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  an exception of the user's own may have no text
        text = "it does not say why"
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def title_of(text: str) -> str:
    """The directory name of the source that `text` names, known before anything is loaded."""
    kind = kind_of(text)
    if kind == "file":
        return directory_name(Path(text).stem.removesuffix(".weights"))
    return directory_name(text.removeprefix(KERAS_PREFIX) if kind == "keras" else text.rpartition(":")[2])


def major(version: str | None) -> int:
    """The first number of the version of Keras that wrote a file; one without it is from before Keras noted it."""
    found = re.match("[0-9]{1,4}", version or "")
    return int(found[0]) if found else 1
