"""A source that was named but is not loaded yet: its title, its identity, and the function that loads it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from converter.core.errors import UsageError
from converter.core.foreign import KerasModel
from converter.sources.choose import load, load_object
from converter.sources.names import function_parts, kind_of, refuse_directory, title_of

if TYPE_CHECKING:  # converter.core.data imports numpy, which `cnnexport list` does not need
    from converter.core.data import Source, SourceOptions


@dataclass(frozen=True)
class Opened:
    """`title` is the directory name. `identity` distinguishes two sources with one title, and contains no path."""

    title: str
    identity: str
    load: Callable[[], Source]


def opened(model: KerasModel | str | PathLike[str], options: SourceOptions, commands: Sequence[str] = ()) -> Opened:
    """The source that `model` is: a keras.Model, the path of a file, or a source's text.

    Nothing is loaded yet, except for an object. A path means a file even where a zoo model has the same name. Raises
    UsageError for an argument of any other type, InputError for a directory, and what `load_object` raises.
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
    if kind == "file":
        refuse_directory(text)
    return Opened(title_of(text), _identity(text, kind, options), lambda: load(text, options, commands=commands))


def _identity(text: str, kind: str, options: SourceOptions) -> str:
    """The kind and the names of the source and of its builder, a hash in place of each file's path."""
    named = [_placed(text) if kind == "file" else _placed_function(text)]
    builder = [_placed_function(options.builder)] if options.builder else []
    return " ".join([kind, *named, *builder])


def _placed_function(text: str) -> str:
    path, function = function_parts(text)
    return f"{_placed(path)}:{function}" if path.endswith(".py") else text


def _placed(path: str) -> str:
    """The name of a file, and a hash that stands for where it is."""
    place = hashlib.sha256(os.path.realpath(path).encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{Path(path).name} {place}"
