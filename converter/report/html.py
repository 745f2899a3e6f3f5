"""A Report as one self-contained HTML page: no script, no external resource, and a policy that forbids both.

The template escapes all values. Names and sentences from models are cleaned and shortened first, as for the terminal.
The policy allows one style sheet, by its hash, so that even an error in the escaping could not add another one.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from converter.core.data import Artifact
from converter.core.foreign import Facts, Json
from converter.core.jsonable import plain
from converter.core.results import Comparison, LayerError, OutputResult, Report, Tolerance
from converter.core.text import run_name
from converter.report.figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDE, WIDTH, histogram, layer_chart, scatter
from converter.report.table import clean, number_text, size_text

TEMPLATES = Path(__file__).with_name("templates")
NAME_LENGTH, SENTENCE_LENGTH = 80, 600
MAX_ENTRIES, MAX_FIGURES, MAX_LAYERS = 200, 48, 400
OPEN_LAYERS = 16
"""Up to this number of layers their table is shown open, above it closed."""
LAYER_CLASSES = "layer_classes"
"""Key in a report's source: number of layers by class, as "loaded" and, if rules were applied, "rewritten"."""
VERDICT_TEXT = {
    "pass": "Every artifact agrees with Keras within its tolerance, and every negative control was detected.",
    "fail": "At least one condition below is not met.",
    "inconclusive": "The check could not have failed, or nothing was compared. This is not a pass.",
}


def to_html(report: Report, files: Mapping[str, str] | None = None) -> str:
    """The page. `files` are the sha256 of the files in the artifact directory by path, for display."""
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
        explanation=VERDICT_TEXT[report.verdict],
        style=Markup(style),  # not escaped: a file of this package, whose hash is in the policy
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        samples=max((row.samples for row in report.rows), default=0),
        lines=list(_table_rows(report)),
        causes=[(_row_name(row), row.diagnosis.text) for row in report.rows if row.diagnosis],
        reasons=list(_reasons(report)),
        stages=_stages(report),
        layers=list(_layers(report)),
        figures=list(_figures(report))[:MAX_FIGURES],
        frame=_frame(WIDTH),
        wide=_frame(WIDE),
        before=_counts_before(report.source),
        bounds=[(name, _bound(tolerance)) for name, tolerance in report.tolerances.items()],
        artifacts=[_artifact(each) for each in report.artifacts],
        facts=[(_row_name(row), _entries(row.facts)) for row in report.rows if row.facts],
        files=sorted((files or {}).items()),
        environment=_entries(report.environment),
        source=_entries({name: each for name, each in report.source.items() if name != LAYER_CLASSES}),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _row_name(row: Comparison) -> str:
    return run_name(row.subject, row.precision, row.runtime, row.device)


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
    """The reasons and failures, without the sentences that are shown beside the verdict already."""
    causes = {each.diagnosis.text for each in report.rows if each.diagnosis}
    for reason in (*report.reasons, *report.failures):
        if not any(reason.endswith(text) for text in causes if text):
            yield reason


def _stages(report: Report) -> Facts:
    """The lines of the table of stages, with bar lengths on one logarithmic scale from `low` to `high`."""
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
    return {"lines": lines[:MAX_ENTRIES], "low": f"1e{low}", "high": f"1e{high}"}


def _layers(report: Report) -> Iterator[Facts]:
    """Chart and numbers for each row whose layers were compared."""
    for row in report.rows:
        found = row.diagnosis
        if found and found.layers:
            first = found.first if found.first is not None and 0 <= found.first < len(found.layers) else None
            shown = found.layers[:MAX_LAYERS]
            yield {
                "where": _row_name(row),
                "read_in": found.where or row.runtime,
                "text": found.text,
                "chart": layer_chart(found.layers, first),
                "first": first,
                "name": "" if first is None else clean(found.layers[first].name, 30),
                "open": len(found.layers) <= OPEN_LAYERS,
                "layers": [(each, _beyond(each), _others(each)) for each in shown],
                "count": len(found.layers),
                "absent": sum(each.error is None for each in found.layers),
            }


def _beyond(layer: LayerError) -> bool:
    return layer.error is not None and not layer.error <= layer.tolerance


def _others(layer: LayerError) -> str:
    return ", ".join(_clean(name) for name in layer.covers if name != layer.name)


def _counts_before(source: Mapping[str, Json]) -> list[Facts]:
    """The number of layers by class, as loaded and as rewritten; an older report does not have it."""
    recorded = source.get(LAYER_CLASSES)
    titles = {"loaded": "The Keras model as loaded", "rewritten": "The Keras model as rewritten"}
    found = []
    for key, title in titles.items():
        counts = recorded.get(key) if isinstance(recorded, Mapping) else None
        if isinstance(counts, Mapping) and counts and all(type(count) is int for count in counts.values()):
            found.append({"title": title, "total": sum(counts.values()), "operators": _sorted(counts)})
    return found


def _sorted(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_ENTRIES]


def _table_rows(report: Report) -> Iterator[Facts]:
    """One line of the table for each row and output, and one for a row in which nothing was compared."""
    for row in report.rows:
        bounds = row.facts.get("tolerance", report.tolerances)  # rows of another precision have theirs
        outputs: tuple[OutputResult | None, ...] = row.outputs or (None,)
        for result in outputs:
            bound = bounds.get(result.output) if result else None
            yield {
                "row": row,
                "where": _row_name(row),
                "result": result,
                "bound": bound,
                "verdict": _verdict(row, result),
                "share": _share(result, bound),
            }


def _verdict(row: Comparison, result: OutputResult | None) -> str:
    if result is None:
        return "fail" if row.error else "nothing compared"
    return "pass" if result.passed else "fail"


def _share(result: OutputResult | None, bound: Tolerance | None) -> float | None:
    """The error as a share of the tolerance, 0 to 1, for the bar beside it."""
    if result is None or bound is None or result.relative_l2 is None or not bound.value > 0:
        return None
    return min(1.0, result.relative_l2 / bound.value) if result.relative_l2 == result.relative_l2 else 1.0


def _figures(report: Report) -> Iterator[Facts]:
    """Scatter plot and histogram for each row and output with points, failed ones first."""
    found = [
        (result.passed, row, result) for row in report.rows for result in row.outputs if result.output in row.points
    ]
    for passed, row, result in sorted(found, key=lambda each: each[0]):
        points = row.points[result.output]
        yield {
            "where": _row_name(row),
            "output": result.output,
            "domain": result.domain,
            "passed": passed,
            "scatter": scatter(points),
            "histogram": histogram(points),
        }


def _artifact(artifact: Artifact) -> Facts:
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
        return f"{_number(tolerance.value)}, set by the user"
    if tolerance.noise is None:
        return f"{_number(tolerance.value)}, the strict default, because the noise was not measured"
    rule = f"{tolerance.factor:.3g} times the noise {_number(tolerance.noise)}"
    return f"{_number(tolerance.value)}, {rule} (floor {tolerance.floor:g}, cap {tolerance.cap:g})"


def _entries(value: Json, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, text); a list of plain values is one line; long text is cut."""
    value = plain(value)
    if isinstance(value, dict):
        found = [
            entry
            for name, each in value.items()
            for entry in _entries(each, f"{prefix}.{_clean(name)}" if prefix else _clean(name))
        ]
        return found[:MAX_ENTRIES]
    if isinstance(value, list):
        text = ", ".join(str(each) for each in value[:MAX_ENTRIES])
    else:
        text = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return [(prefix, clean(text, 6 * NAME_LENGTH) or "-")]


def _clean(text: object) -> str:
    return clean(str(text), NAME_LENGTH) or "(no name)"


def _sentence(text: str) -> str:
    """Text whose lines are kept; each line is cleaned, and their number is limited."""
    return "\n".join(clean(line, SENTENCE_LENGTH) for line in text.splitlines()[:60])


def _number(value: float | None) -> str:
    return number_text(value) or "-"


def _size(size: int | None) -> str:
    return size_text(size) or "-"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
