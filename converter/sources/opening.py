"""A source that was named but not loaded: its title, what it is recognized by, and how to load it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from converter.core.errors import InputError, UsageError
from converter.core.foreign import KerasModel
from converter.sources.choose import load, load_object
from converter.sources.names import function_parts, kind_of, title_of

if TYPE_CHECKING:  # converter.core.data imports numpy, which `cnnexport list` does not need
    from converter.core.data import Source, SourceOptions


@dataclass(frozen=True)
class Opened:
    """`title` is the directory name. `identity` tells two sources of one title apart, and does not name a place."""

    title: str
    identity: str
    load: Callable[[], Source]


def opened(model: KerasModel | str | PathLike[str], options: SourceOptions, commands: Sequence[str] = ()) -> Opened:
    """The source that `model` is: a keras.Model, the path of a file, or a source's text.

    A text is looked at, and nothing is loaded yet. A path is a file even where a zoo model has its name. Raises
    UsageError for what can be none of them, InputError for a directory, and what `load_object` raises.
    """
    if isinstance(model, str):
        return _named(model, options, commands)
    if isinstance(model, PathLike):
        text = os.fspath(model)
        if not isinstance(text, str):
            raise UsageError("model: expected a path of text, not of bytes")
        return _named(text if kind_of(text) == "file" else os.path.join(os.curdir, text), options, commands)  # noqa: PTH118
    if model is None or isinstance(model, bool | int | float | bytes | list | tuple | dict | set):
        what = "None" if model is None else f"a value of type {type(model).__name__}"
        raise UsageError(f"model: expected a keras.Model, a path, or the text of a source, not {what}")
    source = load_object(model, input_shape=options.input_shape)
    kind = type(model)
    identity = f"object {kind.__module__}.{kind.__qualname__} {source.name} {source.model.count_params()}"
    return Opened(source.name, identity, lambda: source)


def _named(text: str, options: SourceOptions, commands: Sequence[str]) -> Opened:
    kind = kind_of(text)
    if kind == "unknown":
        load(text, options, commands=commands)  # raises, with a suggestion
    if kind == "file" and Path(text).is_dir():
        raise InputError(f"{text}: a directory, not a file\ngive the .keras or .h5 file that Keras saved")
    return Opened(title_of(text), _identity(text, kind, options), lambda: load(text, options, commands=commands))


def _identity(text: str, kind: str, options: SourceOptions) -> str:
    """The kind and the name, of a file with a hash of its place, so that no path of a machine is written down."""
    path, function = function_parts(text) if kind == "function" else (text, "")
    place = ""
    if kind == "file" or path.endswith(".py"):
        place = hashlib.sha256(os.path.realpath(path).encode(errors="surrogatepass")).hexdigest()[:16]
        path = Path(path).name
    name = f"{path}:{function}" if function else path
    return " ".join(filter(None, (kind, name, place, options.builder)))
