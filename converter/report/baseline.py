"""An earlier report as a bound: no error may have grown much, no operator count changed, no row gone.

A gate on parity alone lets an artifact drift from 1 to 7 times the noise, or grow fifty Transposes, without a word;
held against the report of the last good build, both are failures.
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
"""The runtime of a row that is no artifact. Only an export has it, so that a later check does not miss it."""

Row = tuple[str, str, str, str]  # subject, runtime, device, precision
Kind = tuple[str, str]  # format, precision


@dataclass(frozen=True)
class Baseline:
    """What a report.json says of the build that it is from.

    `errors` are relative L2 by row and output; None where the outputs could not be compared by numbers, which bounds
    nothing. `growth` is the factor by which an error may exceed them.
    """

    path: Path
    model: str
    errors: Mapping[Row, Mapping[str, float | None]]
    operators: Mapping[Kind, Mapping[str, int]]
    growth: float = GROWTH


def read_baseline(path: Path, growth: float = GROWTH) -> Baseline:
    """The baseline in the report.json at `path`.

    Raises InputError where it cannot be read, is no report of cnnexport, or bounds nothing, and UsageError for a
    `growth` that is no number of at least 1.
    """
    if not 1 <= growth < math.inf:
        raise UsageError(f"--growth {growth:g}: must be a number of at least 1; 2 lets an error double")
    try:
        baseline = _parse(read_json(path, MAX_BYTES, "a report of cnnexport"), path, growth)
    except InputError as error:
        where = str(error).removesuffix("; export the model again")
        raise InputError(
            f"--baseline {where}\ngive the report.json that an export wrote, or the output of --json"
        ) from error
    if not any(error is not None for outputs in baseline.errors.values() for error in outputs.values()):
        raise InputError(f"--baseline {path}: holds no error to compare with; give the report of a build that passed")
    return baseline


def compared_with(report: Report, baseline: Baseline | None) -> Report:
    """`report`, failed with its reasons added where it is worse than `baseline`; unchanged otherwise.

    Raises InputError for the baseline of another model.
    """
    if baseline is None:
        return report
    if report.model != baseline.model:
        raise InputError(
            f"--baseline {baseline.path}: is of the model {baseline.model[:60]!r}, not {report.model[:60]!r}"
        )
    reasons = (*_grown(report, baseline), *_restructured(report.artifacts, baseline))
    return replace(report, verdict="fail", reasons=(*report.reasons, *reasons)) if reasons else report


def _grown(report: Report, baseline: Baseline) -> Iterator[str]:
    """A sentence for each row and output that is gone, or whose error is beyond its bound."""
    rows = {_key(row): row for row in report.rows}
    for key, errors in baseline.errors.items():
        subject, runtime, device, precision = key
        where = f"baseline: {subject} in {runtime} on {device}{'' if precision == 'float32' else f' ({precision})'}"
        if key not in rows:
            if runtime != KERAS:
                yield f"{where}: compared there, and not in this report"
            continue
        found = {each.output: each for each in rows[key].outputs}
        for name, before in errors.items():
            if name not in found:
                yield f"{where}, output {name}: compared there, and not in this report"
                continue
            now = found[name].relative_l2
            if before is None or now is None or not math.isfinite(before):
                continue  # without numbers the output fails by itself, and bounded nothing before
            bound = report.tolerances.get(name)
            noise = (bound.noise if bound else None) or 0.0
            if not (now <= baseline.growth * before or now - before < noise):
                yield (
                    f"{where}, output {name}: relative L2 grew from {before:.3g} to {now:.3g}, "
                    f"more than {baseline.growth:g} times and by more than the noise {noise:.2g}"
                )


def _restructured(artifacts: tuple[Artifact, ...], baseline: Baseline) -> Iterator[str]:
    """A sentence for each artifact that is gone or counts other operators."""
    present = {(each.format, each.precision): each.operators for each in artifacts}
    for key, before in baseline.operators.items():
        where = f"baseline: {key[0]}{'' if key[1] == 'float32' else f' ({key[1]})'}"
        if key not in present:
            yield f"{where}: written there, and not here"
            continue
        now = present[key]
        names = sorted({*before, *now})
        changes = [
            f"{name} {before.get(name, 0)} -> {now.get(name, 0)}" for name in names if before.get(name) != now.get(name)
        ]
        if changes:
            yield f"{where}: operator counts changed: {', '.join(changes)}"


def _key(row: Comparison) -> Row:
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
    """relative_l2: a number, null, or one of the words that stand for what JSON cannot write."""
    value = fields.get("relative_l2", (int, float, str), "")
    if isinstance(value, str):
        if value not in ("", "nan", "inf", "-inf"):
            raise fields.wrong("relative_l2", "a number")
        return None if value == "" else float(value)
    return float(value)
