"""A short HTML summary of a report for notebook cells: the verdict and one table row for each output.

The full page is made by `converter.report.html`.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from converter.core.text import clean

if TYPE_CHECKING:
    from converter.core.results import Report

_COLUMNS = ("format", "runtime", "device", "output", "error (relative L2)", "noise", "tolerance", "verdict")
_LENGTH = 200  # limit for names and reasons, which come from untrusted models


def summary_html(report: Report) -> str:
    """`report` as one <div> of inert HTML: no script, no link, names escaped."""
    lines = []
    for row in report.rows:
        if not row.outputs:
            nothing = (row.subject, row.runtime, row.device, "", "-", "-", "-", "FAIL" if row.error else "not compared")
            lines.append(_line("td", nothing))
        for output in row.outputs:
            bound = report.tolerances.get(output.output)
            cells = (
                row.subject, row.runtime, row.device, output.output, _number(output.relative_l2),
                _number(bound.noise if bound else None), _number(bound.value if bound else None),
                "pass" if output.passed else "FAIL",
            )  # fmt: skip
            lines.append(_line("td", cells))
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in report.reasons)
    return (
        f"<div><p><b>{_text(report.model)}: {report.verdict}</b> ({_text(report.directory)})</p>"
        f"<table><thead>{_line('th', _COLUMNS)}</thead><tbody>{''.join(lines)}</tbody></table>"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div>"
    )


def _line(kind: str, cells: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{kind}>{_text(cell)}</{kind}>' for cell in cells)}</tr>"


def _text(value: str) -> str:
    return html.escape(clean(value, _LENGTH))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
