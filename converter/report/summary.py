"""The part of a report that a fleet keeps: worst error of each comparison, files, timings, reasons."""

from __future__ import annotations

import math

from converter.core.foreign import Json, JsonObject

MAX_REASONS, MAX_ROWS = 5, 500


def summary_of(report: JsonObject) -> JsonObject:
    """The summary of a report in JSON: exit_code, message, comparisons, artifacts, timings, directory.

    Raises nothing for a report with missing fields: what is missing is left out.
    """
    reasons = [str(each) for key in ("reasons", "failures") for each in _list(report, key)]
    code = report.get("exit_code")
    return {
        "exit_code": code if isinstance(code, int) else 70,
        "message": "; ".join(reasons[:MAX_REASONS]),
        "directory": str(report.get("directory", "")),
        "comparisons": [_comparison(row) for row in _list(report, "rows")[:MAX_ROWS] if isinstance(row, dict)],
        "artifacts": [
            {key: each.get(key) for key in ("format", "path", "precision", "size")}
            for each in _list(report, "artifacts")[:MAX_ROWS]
            if isinstance(each, dict)
        ],
        "timings": report.get("timings") if isinstance(report.get("timings"), dict) else {},
    }


def worst_error(row: JsonObject) -> float | None:
    """The largest finite error among the comparisons of a summary, None if there is none."""
    found = [each.get("error") for each in _list(row, "comparisons") if isinstance(each, dict)]
    numbers = [each for each in found if isinstance(each, int | float) and math.isfinite(each)]
    return max(numbers, default=None)


def total_size(row: JsonObject) -> int:
    """The size of all artifacts of a summary, in bytes."""
    sizes = [each.get("size") for each in _list(row, "artifacts") if isinstance(each, dict)]
    return sum(each for each in sizes if isinstance(each, int))


def _comparison(row: JsonObject) -> JsonObject:
    errors = [each.get("relative_l2") for each in _list(row, "outputs") if isinstance(each, dict)]
    numbers = [each for each in errors if isinstance(each, int | float)]
    kept = {key: row.get(key) for key in ("subject", "runtime", "device", "precision", "seconds")}
    return {**kept, "passed": row.get("passed") is True, "error": max(numbers, default=None)}


def _list(value: JsonObject, key: str) -> list[Json]:
    found = value.get(key)
    return list(found) if isinstance(found, list | tuple) else []
