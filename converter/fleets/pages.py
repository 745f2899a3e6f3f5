"""The results of a fleet in its target directory: fleet.json, fleet.html and fleet.xml (JUnit)."""

from __future__ import annotations

import base64
import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path

from converter.core.errors import OutputError
from converter.core.foreign import JsonObject
from converter.core.jsonable import dumps, plain
from converter.core.text import clean
from converter.core.version import __version__
from converter.fleets.tasks import FleetReport, FleetRow
from converter.report.summary import total_size, worst_error

JSON, PAGE, JUNIT = "fleet.json", "fleet.html", "fleet.xml"
TEMPLATES = Path(__file__).with_name("templates")
NAME, TEXT = 200, 2000


def write_pages(report: FleetReport, output: Path) -> None:
    """Write the three files to `output`, each in one step. Raises OutputError."""
    for name, text in ((JSON, dumps(to_json(report))), (PAGE, to_html(report)), (JUNIT, to_junit(report))):
        try:
            temporary = output / f".{name}.partial"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(output / name)
        except OSError as error:
            raise OutputError(f"{output / name}: cannot be written: {error.strerror or error}") from error


def to_json(report: FleetReport) -> JsonObject:
    """The report as JSON values, with its exit code, its summary and the version."""
    value: JsonObject = plain(report)
    return {**value, "exit_code": report.exit_code, "summary": report.summary, "cnnexport": __version__}


def to_junit(report: FleetReport) -> str:
    """The report as a JUnit document: one suite, one case for each model."""
    failures = sum(row.exit_code in (1, 9) for row in report.failed)
    totals = {"tests": str(len(report.rows)), "failures": str(failures), "errors": str(len(report.failed) - failures)}
    totals |= {"time": f"{report.seconds:.3f}"}
    root = ET.Element("testsuites", {"name": "cnnexport fleet", **totals})
    skipped = sum(row.status == "unchanged" for row in report.rows)
    suite = ET.SubElement(root, "testsuite", {"name": "fleet", **totals, "skipped": str(skipped)})
    for row in report.rows:
        place = {"classname": f"fleet.{row.kind}", "name": clean(row.name, NAME), "time": f"{row.seconds:.3f}"}
        case = ET.SubElement(suite, "testcase", place)
        if row.exit_code:
            kind = "failure" if row.exit_code in (1, 9) else "error"
            text = clean(row.message, TEXT) or f"exit code {row.exit_code}"
            ET.SubElement(case, kind, {"message": text, "type": f"exit {row.exit_code}"}).text = text
        elif row.status == "unchanged":
            ET.SubElement(case, "skipped", {"message": "proven by an earlier run"})
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def to_html(report: FleetReport) -> str:
    """The report as one page that needs no network: a table that sorts and filters, and prints."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["clean"] = lambda text: clean(str(text), NAME)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("fleet.css", "fleet.js"))
    columns = sorted({_column(each) for row in report.rows for each in row.comparisons})
    page = environment.get_template(
        "fleet.html.j2"
    ).render(
        report=report,
        version=__version__,
        style=Markup(style),
        script=Markup(script),  # not escaped: files of this package, whose hashes are in the policy
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'",
        columns=columns,
        lines=[_line(row, columns) for row in report.rows],
        slowest=sorted(report.rows, key=lambda row: -row.seconds)[:5],
        largest=sorted(report.rows, key=lambda row: -total_size(_facts(row)))[:5],
        changed=[row for row in report.rows if row.change and row.change != "new"],
        size=lambda row: total_size(_facts(row)),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _facts(row: FleetRow) -> JsonObject:
    return {"comparisons": list(row.comparisons), "artifacts": list(row.artifacts)}


def _column(comparison: object) -> str:
    """The column of a comparison: format, runtime, and precision and device where they are not the usual ones."""
    value = comparison if isinstance(comparison, dict) else {}
    parts = [str(value.get(key) or "?") for key in ("subject", "runtime")]
    precision, device = value.get("precision") or "float32", value.get("device") or "cpu"
    return " ".join([*parts, *([str(precision)] * (precision != "float32")), *([str(device)] * (device != "cpu"))])


def _line(row: FleetRow, columns: list[str]) -> JsonObject:
    """The cells of one row: a text and a value to sort by for each column of errors."""
    found = {_column(each): each for each in row.comparisons}
    cells = []
    for column in columns:
        each = found.get(column)
        error = None if each is None else each.get("error")
        number = error if isinstance(error, int | float) else None
        text = "" if each is None else f"{number:.1e}" if number is not None else "-"
        cells.append({"text": text, "sort": "" if number is None else f"{number:.9e}",
                      "failed": each is not None and not each.get("passed")})  # fmt: skip
    worst = worst_error(_facts(row))
    return {
        "row": row,
        "cells": cells,
        "size": total_size(_facts(row)),
        "worst": "" if worst is None else f"{worst:.1e}",
    }


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
