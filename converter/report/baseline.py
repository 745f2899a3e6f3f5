"""Compares a report with an earlier one: fails if an error grew, an operator count changed, or a row is missing.

The parity check alone lets an artifact drift from 1 to 7 times the noise, or gain fifty Transposes, without a message.
Compared with the report of the last good build, both are failures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.core.data import Artifact
from converter.core.errors import InputError, UsageError
from converter.core.foreign import Json
from converter.core.jsonable import Fields, read_json
from converter.core.results import Comparison, Report

MAX_BYTES = 64 << 20
GROWTH = 2.0
KERAS = "keras"
"""The runtime of the row of the rewritten Keras model. Only an export has this row, so `verify` must not require it."""

Row = tuple[str, str, str, str]  # subject, runtime, device, precision
Kind = tuple[str, str]  # format, precision


@dataclass(frozen=True)
class Baseline:
    """The content of a report.json that later reports are compared with.

    `errors` are relative L2 by row and output; None, if the outputs could not be compared by numbers, sets no limit.
    `growth` is the factor by which an error may exceed them.
    """

    path: Path
    model: str
    errors: Mapping[Row, Mapping[str, float | None]]
    operators: Mapping[Kind, Mapping[str, int]]
    growth: float = GROWTH


def read_baseline(path: Path, growth: float = GROWTH) -> Baseline:
    """The baseline in the report.json at `path`.

    Raises InputError if it cannot be read, is not a report of cnnexport, or sets no limit. Raises UsageError if
    `growth` is not a number of at least 1.
    """
    if not 1 <= growth < math.inf:
        raise UsageError(f"--growth {growth:g}: must be a number of at least 1; 2 allows an error to double")
    try:
        baseline = _parse(read_json(path, MAX_BYTES, "a report of cnnexport"), path, growth)
    except InputError as error:
        where = str(error).removesuffix("; export the model again")
        raise InputError(
            f"--baseline {where}\ngive the report.json that an export wrote, or the output of --json"
        ) from error
    if not any(error is not None for outputs in baseline.errors.values() for error in outputs.values()):
        raise InputError(
            f"--baseline {path}: contains no error to compare with\ngive the report of a build that passed"
        )
    return baseline


def compared_with(report: Report, baseline: Baseline | None) -> Report:
    """`report`, changed to fail with added reasons if it is worse than `baseline`; otherwise unchanged.

    Raises InputError if the baseline is of another model.
    """
    if baseline is None:
        return report
    if report.model != baseline.model:
        raise InputError(
            f"--baseline {baseline.path}: is a report of the model {baseline.model[:60]!r}, not {report.model[:60]!r}"
        )
    reasons = (*_error_reasons(report, baseline), *_operator_reasons(report.artifacts, baseline))
    return replace(report, verdict="fail", reasons=(*report.reasons, *reasons)) if reasons else report


def _error_reasons(report: Report, baseline: Baseline) -> Iterator[str]:
    """A sentence for each row and output that is missing, or whose error is above its limit."""
    rows = {_row_key(row): row for row in report.rows}
    for key, errors in baseline.errors.items():
        subject, runtime, device, precision = key
        where = f"baseline: {subject} in {runtime} on {device}{'' if precision == 'float32' else f' ({precision})'}"
        if key not in rows:
            if runtime != KERAS:
                yield f"{where}: compared in the baseline, but not in this report"
            continue
        found = {each.output: each for each in rows[key].outputs}
        for name, before in errors.items():
            if name not in found:
                yield f"{where}, output {name}: compared in the baseline, but not in this report"
                continue
            now = found[name].relative_l2
            if before is None or now is None or not math.isfinite(before):
                continue  # an output without numbers fails by itself now, or set no limit before
            bound = report.tolerances.get(name)
            noise = (bound.noise if bound else None) or 0.0
            if not (now <= baseline.growth * before or now - before < noise):
                yield (
                    f"{where}, output {name}: relative L2 grew from {before:.3g} to {now:.3g}, "
                    f"more than {baseline.growth:g} times and by more than the noise {noise:.2g}"
                )


def _operator_reasons(artifacts: tuple[Artifact, ...], baseline: Baseline) -> Iterator[str]:
    """A sentence for each artifact that is missing or whose operator counts differ."""
    present = {(each.format, each.precision): each.operators for each in artifacts}
    for key, before in baseline.operators.items():
        where = f"baseline: {key[0]}{'' if key[1] == 'float32' else f' ({key[1]})'}"
        if key not in present:
            yield f"{where}: written in the baseline, but not in this report"
            continue
        now = present[key]
        names = sorted({*before, *now})
        changes = [
            f"{name} {before.get(name, 0)} -> {now.get(name, 0)}" for name in names if before.get(name) != now.get(name)
        ]
        if changes:
            yield f"{where}: operator counts changed: {', '.join(changes)}"


def _row_key(row: Comparison) -> Row:
    return row.subject, row.runtime, row.device, row.precision


def _parse(raw: Json, path: Path, growth: float) -> Baseline:
    top = Fields(raw, str(path))
    errors: dict[Row, dict[str, float | None]] = {}
    for row in top.items("rows"):
        key = (row.get("subject", str), row.get("runtime", str), row.get("device", str), row.get("precision", str))
        errors[key] = {each.get("output", str): _error(each) for each in row.items("outputs")}
    operators: dict[Kind, dict[str, int]] = {}
    for artifact in top.items("artifacts"):
        counts = artifact.get("operators", dict)
        if any(isinstance(count, bool) or not isinstance(count, int) for count in counts.values()):
            raise artifact.wrong("operators", "a whole number for every operator")
        operators[artifact.get("format", str), artifact.get("precision", str)] = counts
    return Baseline(path, top.get("model", str), errors, operators, growth)


def _error(fields: Fields) -> float | None:
    """relative_l2: a number, null, or one of the strings that represent values JSON cannot express."""
    value = fields.get("relative_l2", (int, float, str), "")
    if isinstance(value, str):
        if value not in ("", "nan", "inf", "-inf"):
            raise fields.wrong("relative_l2", "a number")
        return None if value == "" else float(value)
    return float(value)
