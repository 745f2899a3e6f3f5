"""The key of a task: what is proven under one key need not be proven again.

It is made of the content of every file that the task names, of the text of its source, its options, and the versions of
the libraries. Files that a user's module imports are not part of it; `--force` proves again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

from converter.bundle.manifest import MANIFEST
from converter.core import machine
from converter.core.files import sha256_of
from converter.core.foreign import JsonObject
from converter.fleets.tasks import Task

SCHEMA = 1
PATH_OPTIONS = ("--weights", "--inputs", "--baseline", "--calibration", "--labels", "--preprocessing")
"""Options whose value may be a path; the content of a file, or of all files of a folder, is part of the key."""


def versions() -> dict[str, str]:
    """The versions of Python, cnnexport and the libraries that an export depends on."""
    found: dict[str, str] = machine.describe()["versions"]
    return {**found, "python": ".".join(platform.python_version_tuple()[:2])}


def key_of(task: Task, own: dict[str, str] | None = None) -> str:
    """The key of `task`, 64 hexadecimal digits. Raises OSError for a file that cannot be read."""
    facts: JsonObject = {
        "schema": SCHEMA,
        "kind": task.kind,
        "source": task.source if not named_files(task) else Path(task.source).name,
        "options": list(task.options),
        "files": [(path.name, sha256_of(path)) for path in named_files(task)],
        "versions": own or versions(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def named_files(task: Task) -> list[Path]:
    """The files that `task` reads, as far as its text names them."""
    if task.kind == "verify":
        path = Path(task.source)
        return [path / MANIFEST] if path.is_dir() else [path]
    named = [Path(value) for option, value in task.options if option in PATH_OPTIONS and value is not None]
    source = _source_file(task.source)
    found = [each for path in named for each in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [path for path in (source, *found) if path is not None and path.is_file()]


def _source_file(source: str) -> Path | None:
    """The file of a source: a model file, or the Python file of a function."""
    path = source.rpartition(":")[0]
    if not path or path == "keras":
        return Path(source)
    if path.endswith(".py"):
        return Path(path)
    relative = Path(*path.split("."))
    places = (Path(place or ".") for place in ("", *sys.path))
    tries = (place / name for place in places for name in (relative.with_suffix(".py"), relative / "__init__.py"))
    return next((each for each in tries if each.is_file()), None)
