"""What passes between `inspect` and its child process, typed at both ends: a request in, an answer or an error out.

Both are JSON text. Keys keep their order, which `converter.core.jsonable.dumps` would change: a configuration has to
arrive as Keras wrote it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.core import errors
from converter.core.errors import CnnExportError
from converter.core.foreign import Json, JsonObject
from converter.core.jsonable import Fields


@dataclass(frozen=True)
class Request:
    """Inspect the file `path`, and put the weights of an archive into `directory`.

    `custom` are names of classes and functions that the user provides; `trust` allows code from the file;
    `weights_only` means that the configuration is not read. The child may use `seconds` of processor time.
    """

    path: Path
    directory: Path
    custom: tuple[str, ...] = ()
    trust: bool = False
    weights_only: bool = False
    seconds: int = 0


@dataclass(frozen=True)
class Answer:
    """What a model file contains.

    `format` is "keras" (an archive of Keras 3) or "hdf5"; `version` is that of the Keras which wrote the file, None
    where the file does not say. `weights` is the HDF5 file with the weights, `weight_bytes` the memory that its arrays
    take; `assets` says whether the archive has other files. `config` is the model's configuration, repaired for Keras 3
    and checked, None where the file has none or where only weights were requested. `repairs` has one line for each kind
    of repair, `renamed` the old names of top-level layers by their new names.
    """

    format: str
    version: str | None
    weights: Path
    weight_bytes: int
    assets: bool = False
    config: JsonObject | None = None
    repairs: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


def to_text(message: Request | Answer | CnnExportError) -> str:
    """`message` as JSON; an error becomes its class name and its text."""
    if isinstance(message, CnnExportError):
        return json.dumps({"error": type(message).__name__, "message": str(message)})
    return json.dumps(vars(message), default=os.fspath)


def read_request(text: str) -> Request:
    """The request whose JSON is `text`. Raises ValueError for text that is not JSON, InputError for a wrong type."""
    fields = Fields(json.loads(text), "request")
    return Request(
        path=Path(fields.get("path", str)),
        directory=Path(fields.get("directory", str)),
        custom=fields.strings("custom"),
        trust=fields.get("trust", bool),
        weights_only=fields.get("weights_only", bool),
        seconds=fields.get("seconds", int),
    )


def read_answer(text: str) -> Answer | CnnExportError:
    """The answer, or the error that the child reports, whose JSON is `text`. Raises what `read_request` raises."""
    fields = Fields(json.loads(text), "answer")
    if "error" in fields.value:
        return _error(fields.get("error", str), fields.get("message", str))
    return Answer(
        format=fields.get("format", str),
        version=fields.get("version", str, None),
        weights=Path(fields.get("weights", str)),
        weight_bytes=fields.get("weight_bytes", int),
        assets=fields.get("assets", bool),
        config=fields.get("config", dict, None),
        repairs=fields.strings("repairs"),
        renamed=fields.get("renamed", dict),
    )


def _error(name: str, message: str) -> CnnExportError:
    kind: Json = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, CnnExportError)):
        raise ValueError(f"{name} is not an error of cnnexport")
    return kind(message)
