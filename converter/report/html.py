"""A Report as one self-contained HTML page: no script, nothing loaded, and a policy that forbids both.

The template escapes everything; names and sentences that models brought along are cleaned and cut first, as they are
for the terminal. The policy admits one style sheet, by its hash, so that not even an escape that failed could bring in
another.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.core.data import Artifact
from converter.core.jsonable import plain
from converter.core.results import Comparison, LayerError, OutputResult, Report, Tolerance
from converter.report.figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDE, WIDTH, histogram, layer_chart, scatter
from converter.report.table import clean, number_text, size_text

TEMPLATES = Path(__file__).with_name("templates")
NAME_LENGTH, SENTENCE_LENGTH = 80, 600
MOST_ENTRIES, MOST_FIGURES, MOST_LAYERS = 200, 48, 400
FEW_LAYERS = 16
"""Up to so many, the numbers of all layers are shown; of more, they are there to be opened."""
LAYER_CLASSES = "layer_classes"
"""In a report's source: the number of layers by class, as "loaded" and, where rules were applied, "rewritten"."""
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
        causes=[(_where(row), row.diagnosis.text) for row in report.rows if row.diagnosis],
        reasons=list(_reasons(report)),
        stages=_stages(report),
        layers=list(_layers(report)),
        figures=list(_figures(report))[:MOST_FIGURES],
        frame=_frame(WIDTH),
        wide=_frame(WIDE),
        before=_counts_before(report.source),
        bounds=[(name, _bound(tolerance)) for name, tolerance in report.tolerances.items()],
        artifacts=[_artifact(each) for each in report.artifacts],
        facts=[(_where(row), _entries(row.facts)) for row in report.rows if row.facts],
        files=sorted((files or {}).items()),
        environment=_entries(report.environment),
        source=_entries({name: each for name, each in report.source.items() if name != LAYER_CLASSES}),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _where(row: Comparison) -> str:
    precision = "" if row.precision == "float32" else f" {row.precision}"
    return f"{row.subject}{precision} in {row.runtime}{'' if row.device == 'cpu' else f' on {row.device}'}"


def _frame(width: int) -> dict[str, int]:
    return {
        "width": width,
        "height": HEIGHT,
        "left": LEFT,
        "right": width - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
    }


def _reasons(report: Report) -> Iterator[str]:
    """The reasons and failures, without the sentences that stand beside the verdict already."""
    told = {each.diagnosis.text for each in report.rows if each.diagnosis}
    for reason in (*report.reasons, *report.failures):
        if not any(reason.endswith(text) for text in told if text):
            yield reason


def _stages(report: Report) -> dict[str, Any]:
    """The lines of the table of stages, with lengths of bars on one logarithmic scale from `low` to `high`."""
    found = [
        (stage, output, error, report.tolerances.get(output))
        for stage in report.stages
        for output, error in stage.errors.items()
    ]
    values = [error for _, _, error, _ in found] + [bound.value for _, _, _, bound in found if bound]
    logs = [math.log10(value) for value in values if value is not None and 0 < value < math.inf] or [-7.5]
    low = math.floor(min(logs))
    high = max(math.ceil(max(logs)), low + 1)

    def share(value: float | None) -> float | None:
        if value is None or not value >= 0:
            return None
        log = high if value == math.inf else math.log10(value) if value > 0 else low
        return min(1.0, max(0.0, (log - low) / (high - low)))

    lines = [
        {
            "name": stage.name,
            "before": stage.before,
            "output": output,
            "error": error,
            "share": share(error),
            "mark": share(bound.value) if bound else None,
        }
        for stage, output, error, bound in found
    ]
    return {"lines": lines[:MOST_ENTRIES], "low": f"1e{low}", "high": f"1e{high}"}


def _layers(report: Report) -> Iterator[dict[str, Any]]:
    """Chart and numbers for each row whose layers were compared."""
    for row in report.rows:
        found = row.diagnosis
        if found and found.layers:
            first = found.first if found.first is not None and 0 <= found.first < len(found.layers) else None
            shown = found.layers[:MOST_LAYERS]
            yield {
                "where": _where(row),
                "read_in": found.where or row.runtime,
                "text": found.text,
                "chart": layer_chart(found.layers, first),
                "first": first,
                "name": "" if first is None else clean(found.layers[first].name, 30),
                "open": len(found.layers) <= FEW_LAYERS,
                "layers": [(each, _beyond(each), _others(each)) for each in shown],
                "count": len(found.layers),
                "absent": sum(each.error is None for each in found.layers),
            }


def _beyond(layer: LayerError) -> bool:
    return layer.error is not None and not layer.error <= layer.tolerance


def _others(layer: LayerError) -> str:
    return ", ".join(_clean(name) for name in layer.covers if name != layer.name)


def _counts_before(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many layers of which class the Keras model had, and after rewriting; an older report does not tell."""
    told = source.get(LAYER_CLASSES)
    titles = {"loaded": "The Keras model as it was loaded", "rewritten": "The Keras model as rewritten"}
    found = []
    for key, title in titles.items():
        counts = told.get(key) if isinstance(told, Mapping) else None
        if isinstance(counts, Mapping) and counts and all(type(count) is int for count in counts.values()):
            found.append({"title": title, "total": sum(counts.values()), "operators": _sorted(counts)})
    return found


def _sorted(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MOST_ENTRIES]


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
    return {
        "artifact": artifact,
        "operators": _sorted(artifact.operators),
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
