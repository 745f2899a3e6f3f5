"""What a user's text can mean, and what was probably meant instead; without Keras, TensorFlow and numpy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from converter.core.errors import InputError, UsageError
from converter.core.foreign import JsonObject

try:
    from zoo import MODELS
except ImportError as error:
    raise UsageError(
        f"the package zoo of cnnexport is hidden by another package of the same name: {error}\n"
        "run from another directory, remove the other package from PYTHONPATH, or rename it"
    ) from error

Kind = Literal["zoo", "file", "keras", "function", "unknown"]

FILE_SUFFIXES = (".keras", ".h5", ".hdf5", ".hdf", ".he5", ".weights")
KERAS_PREFIX = "keras:"
OWN_PACKAGES = ("converter", "zoo")
_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
FUNCTION = re.compile(rf"({_DOTTED}):({_DOTTED})")
FILE_FUNCTION = re.compile(rf"(.+\.py):({_DOTTED})", re.DOTALL)
"""A function in a Python file, by the file's path."""


def known_names() -> list[str]:
    """The names of the zoo, in its order."""
    return list(MODELS)


def zoo_table() -> list[JsonObject]:
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
    """The kind of source that `text` names. A zoo name comes before a file of that name; `./name` means the file."""
    if text in MODELS:
        return "zoo"
    if text.startswith(KERAS_PREFIX):
        return "keras"
    if Path(text).suffix.lower() in FILE_SUFFIXES:
        return "file"
    if function_parts(text) != ("", ""):
        return "function"
    if "/" in text or "\\" in text or (text and os.path.exists(text)):  # noqa: PTH110
        return "file"
    return "unknown"


def function_parts(text: str) -> tuple[str, str]:
    """The module (or the path of its file) and the function that `text` names; both empty for any other text."""
    found = FILE_FUNCTION.fullmatch(text) or FUNCTION.fullmatch(text)
    return (found[1], found[2]) if found else ("", "")


def without_folder(text: str) -> str:
    """A function's `text` without the folder of its file, so that no path of a machine is written down."""
    path, function = function_parts(text)
    return f"{Path(path).name}:{function}" if path.endswith(".py") else text


def is_file(path: str | Path) -> bool:
    """Whether `path` is a file; False also for a name that is too long, where `Path.is_file` would raise."""
    return os.path.isfile(path)  # noqa: PTH113


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate most similar to `word`, "" where none is."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else ""


def refuse_directory(text: str) -> None:
    """Raise InputError where the path `text` is a directory."""
    if os.path.isdir(text):  # noqa: PTH112  False for a name that is too long, where `Path.is_dir` would raise
        raise InputError(f"{text}: a directory, not a file\ngive the .keras or .h5 file that Keras saved")


def directory_name(text: str) -> str:
    """`text` as a directory name: letters, digits, dot, dash and underscore, never empty, never hidden."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    return clean[:80] or "model"


def title_of(text: str) -> str:
    """The directory name of the source that `text` names, known before anything is loaded."""
    kind = kind_of(text)
    if kind == "file":
        return directory_name(Path(text).stem.removesuffix(".weights"))
    return directory_name(text.removeprefix(KERAS_PREFIX) if kind == "keras" else text.rpartition(":")[2])


def major(version: str | None) -> int:
    """The first number of the version of Keras that wrote a file; 1 where the file does not say, as in early files."""
    found = re.match("[0-9]{1,4}", version or "")
    return int(found[0]) if found else 1
