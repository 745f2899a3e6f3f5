"""How much memory a task needs: what it took the last time, or an estimate from its files."""

from __future__ import annotations

from pathlib import Path

from converter.core.foreign import JsonObject
from converter.fleets.keys import named_files
from converter.fleets.tasks import Task

EXPORT, VERIFY = 1500 << 20, 500 << 20
"""Bytes that a process needs for a small model: the libraries."""
EXPORT_TIMES, VERIFY_TIMES = 6, 3
"""How often the weights are in memory at most, about."""
MARGIN = 1.25


def memory_of(task: Task, known: JsonObject) -> int:
    """Bytes that `task` will need; `known` is its state of earlier runs."""
    measured = known.get("memory")
    if isinstance(measured, int) and measured > 0:
        return int(measured * MARGIN)
    if task.kind == "verify":
        return VERIFY + VERIFY_TIMES * _size(Path(task.source))
    return EXPORT + EXPORT_TIMES * sum(each.stat().st_size for each in named_files(task))


def seconds_of(known: JsonObject) -> float:
    """How long a task took the last time; a task that is not known counts as long, so that it begins early."""
    seconds = known.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else float("inf")


def _size(path: Path) -> int:
    try:
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        return sum(each.stat().st_size for each in files)
    except OSError:
        return 0
