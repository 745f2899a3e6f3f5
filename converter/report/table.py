"""A Report as a table for people and as JSON for programs.

Names in a report come from models and are untrusted. They are printed as literal text, without control characters,
escape sequences or markup, and shortened so that the verdict stays visible.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from converter.core.foreign import JsonObject
from converter.core.jsonable import dumps, plain
from converter.core.results import Comparison, OutputResult, Report, Tolerance
from converter.core.text import clean as clean_line
from converter.core.text import inert, place_of, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 100
NAME_LENGTH = 60
SENTENCE_LENGTH = 300
WARNING_LINES = 40  # of one warning, after its first
COLOURS = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


def to_json(report: Report) -> JsonObject:
    """The report as JSON values, with `exit_code` and `passed` added; NaN and infinities become strings."""
    value: JsonObject = plain(report)
    value["exit_code"] = report.exit_code
    for row, written in zip(report.rows, value["rows"], strict=True):
        written["passed"] = row.passed
    return value


def print_json(report: Report, file: IO[str]) -> None:
    """Write the report to `file` as exactly one JSON document, in ASCII."""
    file.write(dumps(to_json(report)))
    file.flush()


def print_report(report: Report, file: IO[str]) -> None:
    """Write the table and the lines below it to `file`: at most 100 columns, with colours only on a terminal.

    Characters that the encoding of `file` lacks become "?".
    """
    from rich.console import Console

    on = Console(file=file, highlight=False, emoji=False, markup=False)
    width = min(WIDTH, on.width) if on.is_terminal or os.environ.get("COLUMNS", "").isdigit() else WIDTH
    buffer = Console(
        file=io.StringIO(), highlight=False, emoji=False, markup=False, width=max(20, width), no_color=on.no_color,
        force_terminal=on.is_terminal, color_system="standard" if on.is_terminal else None, legacy_windows=False,
    )  # fmt: skip
    with buffer.capture() as capture:
        buffer.print(table(report, buffer.width))
    encoding = getattr(file, "encoding", None) or "utf-8"
    lines = capture.get().encode(encoding, "replace").decode(encoding).splitlines()
    file.write("\n".join(inert(line.rstrip()) for line in lines) + "\n")
    file.flush()


def table(report: Report, width: int = WIDTH) -> RenderableType:
    """The content that `print_report` prints.

    If `width` is too small for the table, each result becomes a block of text.
    """
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    cells = list(_cells(report))
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    shown = [name for name in (cells[0] if cells else {}) if any(cell[name] for cell in cells)]
    room = width
    for name in shown:
        numeric = name in ("error", "noise", "x noise", "tolerance", "size", "time")
        grid.add_column(name, justify="right" if numeric else "left", no_wrap=True, overflow="ellipsis")
        room -= max(len(name), *(len(cell[name]) for cell in cells)) + 2
    if room < 0 and "output" in shown:
        # only the column with the name of the output may be shortened
        longest = max(len(cell["output"]) for cell in cells)
        for cell in cells:
            cell["output"] = shorten(cell["output"], max(8, longest + room))
    for cell in cells:
        grid.add_row(*(Text(cell[name], _style(name, cell[name])) for name in shown))
    samples = max((row.samples for row in report.rows), default=0)
    title = f"{clean(report.model)}: {samples} samples, seed {report.seed}"
    parts: list[RenderableType] = [Text(title, "bold"), Text("")]
    if cells and Console(width=10_000).measure(grid).maximum <= width + 2:
        parts.append(grid)
    else:
        for cell in cells:
            text = ", ".join(f"{name} {cell[name]}" for name in shown if cell[name])
            parts.append(Text(text, _style("verdict", cell["verdict"])))
    if not cells:
        parts.append(Text("nothing was compared", "yellow"))
    parts.append(Text(""))
    parts += [Text(line) for line in _lines_below(report)]
    where = f": {clean(report.directory, SENTENCE_LENGTH)}" if report.directory else ""
    if report.source.get("changed_on_purpose") is True:
        where = f", with the function changed on purpose{where}"
    about = scope(report)
    parts.append(Text(f"{report.verdict}{f' ({about})' if about else ''}{where}", COLOURS[report.verdict]))
    return Group(*parts)


def clean(text: str, limit: int = NAME_LENGTH) -> str:
    """`converter.core.text.clean` with the maximum length of a name."""
    return clean_line(text, limit)


def _style(column: str, text: str) -> str:
    return {"pass": "green", "FAIL": "bold red"}.get(text, "yellow") if column == "verdict" else ""


def _cells(report: Report) -> Iterator[dict[str, str]]:
    """One dict of texts per line of the table; a column that is empty in every line is left out."""
    rows = sorted(report.rows, key=lambda row: not row.subject.startswith("keras"))
    several = any(len(row.outputs) > 1 for row in rows)
    devices = {row.device for row in rows} != {"cpu"}
    for row in rows:
        results: tuple[OutputResult | None, ...] = row.outputs or (None,)
        for index, result in enumerate(results):
            own = row.facts.get("tolerance", report.tolerances)
            bound = own.get(result.output) if result else None
            first = index == 0
            yield {
                "format": _format(row) if first else "",
                "runtime": clean(row.runtime, 20) if first else "",
                "device": clean(row.device, 12) if first and devices else "",
                "output": clean(result.output) if result and several else "",
                "error": number_text(result.relative_l2 if result else None) or "-",
                "noise": number_text(bound.noise if bound else None) or "-",
                "x noise": _multiple(result.multiple if result else None) or "-",
                "tolerance": number_text(bound.value if bound else None) or "-",
                "verdict": ("pass" if result.passed else "FAIL") if result else _without_result(row),
                "size": size_text(row.size) if first else "",
                "time": _seconds(row.seconds) if first else "",
            }


def _without_result(row: Comparison) -> str:
    return "FAIL" if row.error else "nothing compared"


def scope(report: Report) -> str:
    """What the verdict is about: the formats in their runtimes, and the files that nothing is known of."""
    pairs: dict[str, list[str]] = {}
    for row in report.rows:
        if not row.subject.startswith("keras"):
            pairs.setdefault(_format(row), []).append(clean(place_of(row.runtime, row.device), 40))
    proven = "; ".join(f"{name} in {', '.join(where)}" for name, where in pairs.items())
    left = f"; not run: {', '.join(clean(path) for path in report.not_run)}" if report.not_run else ""
    return f"{proven}{left}"


def _format(row: Comparison) -> str:
    precision = "" if row.precision == "float32" else f" {row.precision}"
    return clean(row.subject + precision, 24)


def _lines_below(report: Report) -> Iterator[str]:
    """The lines below the table, most important first."""
    for reason in report.reasons:
        yield f"{report.verdict}: {clean(reason, SENTENCE_LENGTH)}"
    applicable = [control for control in report.controls if control.applicable]
    found = [control for control in applicable if control.detected]
    detected = ", ".join(f"{clean(each.name)} {number_text(each.relative_l2)}".rstrip() for each in found)
    missed = ", ".join(clean(each.name) for each in applicable if not each.detected)
    alike = ", ".join(clean(each.name) for each in report.controls if not each.applicable)
    line = f"controls: {len(found)} of {len(applicable)} wrong outputs detected"
    yield (
        line
        + (f": {detected}" if detected else "")
        + (f"; NOT detected: {missed}" if missed else "")
        + (f"; not applicable, because Keras answers alike: {alike}" if alike else "")
    )
    apart = [_separation(name, value, report.tolerances.get(name)) for name, value in report.separation.items()]
    if apart:
        yield f"distance of the two closest samples: {'; '.join(apart)}"
    bounds = [f"{clean(name)} {_bound(tolerance)}" for name, tolerance in report.tolerances.items()]
    if bounds:
        yield f"tolerance: {'; '.join(bounds)}"
    yield from _stages(report)
    underflows = sum(result.underflows for row in report.rows for result in row.outputs)
    if underflows:
        yield f"probabilities too close to 0 or 1 for a logit, compared as plain values: {underflows}"
    if report.source.get("untrained") is True:
        yield "weights: untrained (seeded and calibrated); this proves the export, not the accuracy of the model"
    for warning in report.warnings:
        first, *others = warning.splitlines() or [""]
        yield f"warning: {clean(first, SENTENCE_LENGTH)}"
        yield from (f"  {clean(line, SENTENCE_LENGTH)}" for line in others[:WARNING_LINES])
        if len(others) > WARNING_LINES:
            yield f"  … and {len(others) - WARNING_LINES} more lines, see the JSON report"


def _stages(report: Report) -> Iterator[str]:
    """A line for each output: the error that each step adds to the step before it."""
    for output in report.stages[0].errors if report.stages else ():
        steps = [
            f"{clean(stage.name, 40)} vs {clean(stage.before, 40)} {number_text(stage.errors.get(output)) or '-'}"
            for stage in report.stages
        ]
        yield f"error by stage, {clean(output)}: {'; '.join(steps)}"


def _separation(name: str, value: float, tolerance: Tolerance | None) -> str:
    times = f", {value / tolerance.value:,.0f} times the tolerance" if tolerance and tolerance.value > 0 else ""
    return f"{clean(name)} {number_text(value)}{times}"


def _bound(tolerance: Tolerance) -> str:
    """A tolerance and its derivation."""
    value = number_text(tolerance.value)
    if tolerance.chosen:
        return f"{value}, set by the user"
    if tolerance.floor == tolerance.cap:
        return f"{value}, fixed for this precision"
    if tolerance.noise is None:
        return f"{value}, the strict default, because the noise was not measured"
    multiple = f"{tolerance.factor:.3g} times the noise {number_text(tolerance.noise)}"
    if tolerance.value <= tolerance.floor:
        return f"{value}, the floor ({multiple} is less)"
    return f"{value}, the cap ({multiple} is more)" if tolerance.value >= tolerance.cap else f"{value}, {multiple}"


def number_text(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.1e}"


def _multiple(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value < 1000 else f"{value:.0e}"


def size_text(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
