"""The rows of a report as a Markdown table: for a model card, and for the summary of a job of GitHub Actions.

`python -m converter.report.markdown REPORT.json` prints the summary of a report.
"""

from __future__ import annotations

import sys
from pathlib import Path

from converter.core.errors import InputError
from converter.core.foreign import JsonObject
from converter.core.jsonable import read_json
from converter.core.text import clean
from converter.report.summary import summary_of

TEXT = 300
MAX_BYTES = 64 << 20


def cell(value: object) -> str:
    """Untrusted text for a cell of a table: one line without markup."""
    text = clean(str(value if value is not None else ""), TEXT).replace("\\", "\\\\")
    for mark in "|<>`*_[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def table(report: JsonObject) -> list[str]:
    """The lines of a table with a row for each comparison of a report in JSON."""
    lines = ["| artifact | precision | runtime | error (relative L2) | verdict |", "|---|---|---|---|---|"]
    for row in summary_of(report)["comparisons"]:
        error = row.get("error")
        shown = f"{error:.2e}" if isinstance(error, int | float) else "-"
        cells = [cell(row.get(key)) for key in ("subject", "precision", "runtime")]
        lines.append(f"| {' | '.join([*cells, shown, 'pass' if row['passed'] else 'fail'])} |")
    return lines


def summary(report: JsonObject) -> str:
    """The model, its verdict, the table and the reasons."""
    facts = summary_of(report)
    reasons = [] if not facts["exit_code"] else ["", *(f"- {cell(each)}" for each in report.get("reasons") or ())]
    head = f"### {cell(report.get('model'))}: {cell(report.get('verdict'))}"
    return "\n".join([head, "", *table(report), *reasons, ""])


def main(path: Path) -> int:
    """Print the summary of the report at `path`; 3 if it is not one."""
    try:
        report = read_json(path, MAX_BYTES, "a report of cnnexport")
    except InputError as error:
        sys.stderr.write(f"cnnexport: {error}\n")
        return 3
    if not isinstance(report, dict):
        sys.stderr.write(f"cnnexport: {path}: not a report of cnnexport\n")
        return 3
    sys.stdout.write(summary(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
