"""A Report as annotations for GitHub Actions: workflow commands on standard error, one per line.

Syntax and escapes follow GitHub's "Workflow commands": `::error title=T::message`, with %, CR and LF as %25, %0D and
%0A everywhere, and `:` and `,` as %3A and %2C in a title. A layer name can neither end a command nor start another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converter.core.results import Report
from converter.core.text import COMMAND
from converter.report.table import clean

TITLE_LENGTH, MESSAGE_LENGTH = 120, 1000
MAX_PER_LEVEL = 10  # GitHub shows at most so many of each level for a step


def in_github_actions(environment: Mapping[str, str]) -> bool:
    """Whether this process is a step of GitHub Actions, which sets GITHUB_ACTIONS to "true"."""
    return environment.get("GITHUB_ACTIONS", "").lower() in ("true", "1")


def to_annotations(report: Report) -> list[str]:
    """Errors and warnings as workflow commands: at most `MAX_PER_LEVEL` of each; the last one counts the others."""
    lines = []
    for level, found in (("error", list(_errors(report))), ("warning", list(_warnings(report)))):
        shown = found if len(found) <= MAX_PER_LEVEL else found[: MAX_PER_LEVEL - 1]
        lines += [_command(level, f"{report.model}: {title}", text) for title, text in shown]
        if len(found) > len(shown):
            rest = f"{len(found) - len(shown)} more of this kind; the report has them all"
            lines.append(_command(level, report.model, rest))
    return lines


def _errors(report: Report) -> Iterator[tuple[str, str]]:
    reported = set()
    for row in report.rows:
        where = f"{row.subject} in {row.runtime} on {row.device}"
        for output in row.outputs:
            if not output.passed:
                text = f"{where}, output {output.output}: {output.reason or 'failed'}"
                reported.add(text)
                yield "parity", text
        if not row.outputs:
            text = f"{where}: {row.error or 'no output was compared'}"
            reported.add(text)
            yield "parity", text
    for control in report.controls:
        if control.applicable and not control.detected:
            text = f"control {control.name}: {control.detail}"
            reported.add(text)
            yield "control not detected", text
    for failure in report.failures:
        yield "not written", failure
    for reason in report.reasons:
        if reason not in reported:
            yield report.verdict, reason


def _warnings(report: Report) -> Iterator[tuple[str, str]]:
    for warning in report.warnings:
        yield "warning", warning


def _command(level: str, title: str, message: str) -> str:
    head = _escaped(clean(title, TITLE_LENGTH)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={head}::{_escaped(clean(message, MESSAGE_LENGTH))}"


def _escaped(text: str) -> str:
    return COMMAND.sub("# #", text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
