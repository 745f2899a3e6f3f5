"""Reads the list of a fleet: a strict TOML file, patterns of files, or directories to verify.

output = "artifacts"

[defaults]                # options of cnnexport export, by their long names
format = ["onnx", "tflite"]

[matrix]                  # every combination is a task of its own
layout = ["nhwc", "nchw"]

[[model]]
source = "nets/small.keras"
name = "small"            # optional
samples = 4               # overrides a default
matrix = { opset = [15, 17] }   # instead of [matrix]
"""

from __future__ import annotations

import difflib
import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from converter.core.errors import InputError, UsageError
from converter.core.text import one_line
from converter.fleets.keys import PATH_OPTIONS
from converter.fleets.tasks import Task
from converter.pipeline.options import ExportKeywords

Value: TypeAlias = Any
"""A value of a TOML file"""
Table: TypeAlias = dict[str, Any]
"""A table of a TOML file"""

TOP = ("output", "defaults", "matrix", "model")
OWN = ("source", "name", "matrix")
LARGEST = 4 << 20  # bytes of a list
MOST = 100_000  # tasks
FILE_SUFFIXES = (".keras", ".h5", ".hdf5", ".hdf", ".he5", ".weights")
PATTERN = frozenset("*?[")


def option_names() -> tuple[str, ...]:
    """The keys that a table of options may have: the long options of `cnnexport export`, but for the directory."""
    names = {"formats": "format"}
    found = (names.get(name, name).replace("_", "-") for name in _keywords(ExportKeywords))
    return tuple(sorted(name for name in found if name != "output"))


def _keywords(kind: type) -> Iterable[str]:
    return kind.__annotations__


def read_list(arguments: Sequence[str]) -> tuple[tuple[Task, ...], Path | None]:
    """The tasks that `arguments` list, TOML files, patterns or sources, and the target that a file names.

    Raises InputError for a file that is not readable, UsageError for an unknown key, a wrong type, two tasks with the
    same directory, and an empty list. A model file that is missing is a task with a `problem`.
    """
    tasks: list[Task] = []
    output: Path | None = None
    for argument in arguments:
        if argument.endswith(".toml"):
            found, own = read_toml(Path(argument))
            tasks += found
            output = own or output
        else:
            tasks += [_task(source, title_of(source), {}) for source in _expanded(argument)]
    if not tasks:
        raise UsageError("the fleet has no models\ngive a TOML file, model files, or a quoted pattern: 'nets/*.keras'")
    return refuse_same_output(tasks), output


def read_toml(path: Path) -> tuple[list[Task], Path | None]:
    """The tasks of one TOML file, and its target, which is relative to the file. Raises InputError and UsageError."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: larger than {LARGEST >> 20} MB, so it is not a list of models")
        top = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not readable as TOML: {one_line(error, 160)}") from error
    _refuse_unknown(top, TOP, str(path))
    defaults, matrix = _table(top, "defaults", str(path)), _table(top, "matrix", str(path))
    _refuse_unknown(defaults, option_names(), f"{path}: defaults")
    models = top.get("model", [])
    if not isinstance(models, list) or not all(isinstance(each, dict) for each in models):
        raise UsageError(f"{path}: model: expected tables\nbegin each with [[model]]")
    tasks = [
        task
        for number, model in enumerate(models, 1)
        for task in _tasks_of(model, (defaults, matrix), f"{path}: model {number}", path.parent)
    ]
    output = top.get("output")
    if output is not None and (not isinstance(output, str) or not output):
        raise UsageError(f"{path}: output: expected the path of a directory")
    if len(tasks) > MOST:
        raise UsageError(f"{path}: {len(tasks):,} tasks; at most {MOST:,} in one fleet")
    return tasks, None if output is None else path.parent / output


def _tasks_of(model: Table, shared: tuple[Table, Table], where: str, base: Path) -> list[Task]:
    """A task for each combination of the matrix of one model."""
    _refuse_unknown(model, (*OWN, *option_names()), where)
    source, name = model.get("source"), model.get("name")
    if not isinstance(source, str) or not source:
        raise UsageError(f'{where}: source: expected a model\nas in source = "nets/small.keras"')
    if name is not None and (not isinstance(name, str) or not _is_name(name)):
        raise UsageError(f'{where}: name: expected a relative path without .., as in "vision/small"')
    options = {**shared[0], **{key: value for key, value in model.items() if key not in OWN}}
    matrix = _table(model, "matrix", where) if "matrix" in model else shared[1]
    _refuse_unknown(matrix, option_names(), f"{where}: matrix")
    for key, values in matrix.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"{where}: matrix: {key}: expected a list of values")
    tasks = []
    for source_text in _expanded(_placed(source, base)):
        title = name if name is not None else title_of(source_text)
        for values in itertools.product(*matrix.values()):
            point = dict(zip(matrix, values, strict=True))
            varied = [_part(key, value) for key, value in point.items() if len(matrix[key]) > 1]
            placed = {key: _placed_option(key, value, base) for key, value in {**options, **point}.items()}
            tasks.append(_task(source_text, "-".join([title, *varied]), placed, where))
    return tasks


def to_verify(directories: Sequence[str], runtimes: Sequence[str] = ()) -> tuple[Task, ...]:
    """A task that verifies each of `directories`, which may be patterns. Raises UsageError if there are none."""
    found = list(dict.fromkeys(each for text in directories for each in _expanded(text)))
    if not found:
        raise UsageError("no directories to verify\ngive those that an export wrote: 'artifacts/*'")
    options = tuple(("--runtime", name) for name in runtimes)
    return tuple(
        Task(each, "verify", each, options, "" if Path(each).exists() else f"{each}: no such directory")
        for each in found
        if Path(each).is_dir() or not PATTERN & set("".join(directories)) or not Path(each).exists()
    )


def refuse_same_output(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """`tasks`. Raises UsageError if two have one directory, or one lies in that of another."""
    seen: dict[str, Task] = {}
    for task in tasks:
        key = task.name.casefold()
        other = seen.get(key) or next((seen[str(up)] for up in PurePosixPath(key).parents if str(up) in seen), None)
        if other is not None:
            raise UsageError(
                f"{task.name}: the same output twice, of {other.source} and of {task.source}\n"
                "give each [[model]] a name of its own"
            )
        seen[key] = task
    return tuple(tasks)


def title_of(source: str) -> str:
    """The name of a task from its source, valid as the name of a directory."""
    text = source.removeprefix("keras:")
    path, _, function = text.rpartition(":")
    text = function if path else Path(text).stem if Path(text).suffix in FILE_SUFFIXES else Path(text).name
    return "".join(each if each.isalnum() or each in "._-" else "-" for each in text).strip(".-") or "model"


def _task(source: str, name: str, options: Mapping[str, Value], where: str = "") -> Task:
    pairs = tuple(pair for key in sorted(options) for pair in _pairs(key, options[key], where or source))
    missing = Path(source).suffix.lower() in FILE_SUFFIXES and not Path(source).exists()
    return Task(name, "export", source, pairs, f"no such file: {source}" if missing or _is_pattern(source) else "")


def _pairs(key: str, value: Value, where: str) -> list[tuple[str, str | None]]:
    """One option as pairs for a command line: a flag, a value, several values, or JSON. Raises UsageError."""
    option = f"--{key}"
    if isinstance(value, bool):
        return [(option, None)] if value else []
    if isinstance(value, str | int | float):
        return [(option, str(value))]
    if isinstance(value, list) and all(isinstance(each, str | int) and not isinstance(each, bool) for each in value):
        if key == "input-shape":
            return [(option, "x".join(map(str, value)))]
        return [(option, str(each)) for each in value]
    if isinstance(value, dict) and key == "kwargs":
        return [(option, json.dumps(value))]
    raise UsageError(f"{where}: {key}: expected text, a number, true or false, or a list of these")


def _part(key: str, value: Value) -> str:
    """What a value of the matrix adds to the name of its task."""
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    number = isinstance(value, int | float)
    text = f"{key}-{text}" if number else text
    return "".join(each if each.isalnum() or each in "._-" else "-" for each in text)


def _table(top: Table, key: str, where: str) -> Table:
    found = top.get(key, {})
    if not isinstance(found, dict):
        raise UsageError(f"{where}: {key}: expected a table")
    return found


def _refuse_unknown(table: Table, known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key.replace("_", "-"), known, 1)
            advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {key!r}\n{advice}")


def _is_name(text: str) -> bool:
    path = PurePosixPath(text)
    return text == path.as_posix() and not path.is_absolute() and ".." not in path.parts and path.name not in ("", ".")


def _is_pattern(text: str) -> bool:
    return bool(PATTERN & set(text))


def _expanded(text: str) -> list[str]:
    """The files that match a pattern, in order; `text` itself if it is none or nothing matches."""
    if not _is_pattern(text):
        return [text]
    start = Path(text).anchor
    found = Path(start or ".").glob(text.removeprefix(start).removeprefix("./"))
    return sorted(map(str, found)) or [text]


def _placed(source: str, base: Path) -> str:
    """A file that the list names, relative to the list's own directory; other sources stay."""
    path, colon, function = source.rpartition(":")
    if path.endswith(".py"):
        return f"{base / path}{colon}{function}"
    return str(base / source) if _is_pattern(source) or Path(source).suffix.lower() in FILE_SUFFIXES else source


def _placed_option(key: str, value: Value, base: Path) -> Value:
    """A path that the list names, relative to the list's own directory; words as imagenet or digits stay."""
    if not isinstance(value, str) or f"--{key}" not in PATH_OPTIONS:
        return value
    is_path = (base / value).exists() or key in ("inputs", "baseline") or "/" in value
    return str(base / value) if is_path else value
