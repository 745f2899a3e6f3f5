"""A Report as one self-contained HTML page: no script, nothing loaded, and a policy that forbids both.

The template escapes everything; names and sentences that models brought along are cleaned and cut first, as they are
for the terminal. The policy admits one style sheet, by its hash, so that not even an escape that failed could bring in
another.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.core import Artifact, Comparison, OutputResult, Report, Tolerance
from converter.jsonable import plain
from converter.report import clean, number_text, size_text
from converter.report_figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, histogram, scatter

TEMPLATES = Path(__file__).with_name("templates")
NAME_LENGTH, SENTENCE_LENGTH = 80, 600
MOST_ENTRIES, MOST_FIGURES = 200, 48
WORDS = {
    "pass": "Every artifact gives what Keras gives, and the check was shown to notice when it does not.",
    "fail": "At least one condition below does not hold.",
    "inconclusive": "The check could not have failed, or compared nothing; this is no pass.",
}


def to_html(report: Report, files: Mapping[str, str] | None = None) -> str:
    """The page. `files` are the sha256 of the artifact directory's files by path, shown as they are."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"clean": _clean, "sentence": _sentence, "number": _number, "size": _size, "time": _time}
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment.get_template(
        "report.html.j2"
    ).render(
        report=report,
        words=WORDS[report.verdict],
        style=Markup(style),  # our own file, whose hash is in the policy
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        samples=max((row.samples for row in report.rows), default=0),
        lines=list(_lines(report)),
        figures=list(_figures(report))[:MOST_FIGURES],
        frame={
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        },
        bounds=[(name, _bound(tolerance)) for name, tolerance in report.tolerances.items()],
        artifacts=[_artifact(each) for each in report.artifacts],
        facts=[(_where(row), _entries(row.facts)) for row in report.rows if row.facts],
        files=sorted((files or {}).items()),
        environment=_entries(report.environment),
        source=_entries(report.source),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _where(row: Comparison) -> str:
    precision = "" if row.precision == "float32" else f" {row.precision}"
    return f"{row.subject}{precision} in {row.runtime}{'' if row.device == 'cpu' else f' on {row.device}'}"


def _lines(report: Report) -> Iterator[dict[str, Any]]:
    """One line of the table for each row and output; a row in which nothing was compared has one, too."""
    for row in report.rows:
        bounds = row.facts.get("tolerance", report.tolerances)  # rows of another precision carry theirs
        outputs: tuple[OutputResult | None, ...] = row.outputs or (None,)
        for result in outputs:
            bound = bounds.get(result.output) if result else None
            yield {
                "row": row,
                "where": _where(row),
                "result": result,
                "bound": bound,
                "verdict": ("pass" if result.passed else "fail") if result else "nothing compared",
                "share": _share(result, bound),
            }


def _share(result: OutputResult | None, bound: Tolerance | None) -> float | None:
    """How much of the tolerance the error takes, 0 to 1, for the meter beside it."""
    if result is None or bound is None or result.relative_l2 is None or not bound.value > 0:
        return None
    return min(1.0, result.relative_l2 / bound.value) if result.relative_l2 == result.relative_l2 else 1.0


def _figures(report: Report) -> Iterator[dict[str, Any]]:
    """Scatter and histogram for each row and output with points, those that failed first."""
    found = [
        (result.passed, row, result) for row in report.rows for result in row.outputs if result.output in row.points
    ]
    for passed, row, result in sorted(found, key=lambda each: each[0]):
        points = row.points[result.output]
        yield {
            "where": _where(row),
            "output": result.output,
            "domain": result.domain,
            "passed": passed,
            "scatter": scatter(points),
            "histogram": histogram(points),
        }


def _artifact(artifact: Artifact) -> dict[str, Any]:
    counts = sorted(artifact.operators.items(), key=lambda each: (-each[1], each[0]))
    return {
        "artifact": artifact,
        "operators": counts[:MOST_ENTRIES],
        "total": sum(artifact.operators.values()),
        "inputs": [_spec(each.name, each.shape, each.dtype) for each in artifact.inputs],
        "outputs": [_spec(each.name, each.shape, each.dtype) for each in artifact.outputs],
    }


def _spec(name: str, shape: tuple[int | None, ...], dtype: str) -> str:
    return f"{_clean(name)} {' x '.join('any' if size is None else str(size) for size in shape)} {dtype}"


def _bound(tolerance: Tolerance) -> str:
    if tolerance.chosen:
        return f"{_number(tolerance.value)}, chosen by you"
    if tolerance.noise is None:
        return f"{_number(tolerance.value)}, the strict default: the noise was not measured"
    rule = f"{tolerance.factor:g} times the noise {_number(tolerance.noise)}"
    return f"{_number(tolerance.value)}, from {rule}, within {tolerance.floor:g} to {tolerance.cap:g}"


def _entries(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, text), lists of plain values in one line; what is longer is cut."""
    value = plain(value)
    if isinstance(value, dict):
        found = [
            entry
            for name, each in value.items()
            for entry in _entries(each, f"{prefix}.{_clean(name)}" if prefix else _clean(name))
        ]
        return found[:MOST_ENTRIES]
    if isinstance(value, list):
        text = ", ".join(str(each) for each in value[:MOST_ENTRIES])
    else:
        text = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return [(prefix, clean(text, 6 * NAME_LENGTH) or "-")]


def _clean(text: object) -> str:
    return clean(str(text), NAME_LENGTH) or "(no name)"


def _sentence(text: str) -> str:
    """Several lines stay several lines; each is cleaned, and together they are not endless."""
    return "\n".join(clean(line, SENTENCE_LENGTH) for line in text.splitlines()[:60])


def _number(value: float | None) -> str:
    return number_text(value) or "-"


def _size(size: int | None) -> str:
    return size_text(size) or "-"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
