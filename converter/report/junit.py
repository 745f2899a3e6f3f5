"""A Report as JUnit XML: one suite per model, with a case for each row and output, and for each control.

The suite fails if and only if the exit code is not 0: each other condition (the separation of the samples, a baseline,
a format that could not be written) has its own case.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from converter.core.results import Comparison, OutputResult, Report
from converter.core.text import run_name
from converter.proof.verdict import unexcited
from converter.report.table import clean

NAME_LENGTH, TEXT_LENGTH = 200, 2000


@dataclass(frozen=True)
class Case:
    """One test case, passed if `reason` is empty. `kind` is the JUnit element that contains the reason."""

    group: str
    name: str
    reason: str = ""
    kind: str = "failure"
    seconds: float = 0.0
    details: str = ""


def to_junit(report: Report) -> str:
    """The report as a JUnit document, with only printable characters that are valid in XML 1.0."""
    cases = list(_cases(report))
    failures = sum(bool(case.reason) and case.kind == "failure" for case in cases)
    errors = sum(bool(case.reason) and case.kind == "error" for case in cases)
    totals = {
        "tests": str(len(cases)),
        "failures": str(failures),
        "errors": str(errors),
        "time": f"{sum(report.timings.values()):.3f}",
    }
    root = ET.Element("testsuites", {"name": "cnnexport", **totals})
    model = clean(report.model, NAME_LENGTH) or "model"
    suite = ET.SubElement(root, "testsuite", {"name": model, **totals, "skipped": "0"})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report):
        ET.SubElement(properties, "property", {"name": clean(name, NAME_LENGTH), "value": clean(value, NAME_LENGTH)})
    seen: dict[tuple[str, str], int] = {}
    for case in cases:
        group, name = f"{model}.{clean(case.group, NAME_LENGTH)}", clean(case.name, NAME_LENGTH) or "(no name)"
        count = seen[group, name] = seen.get((group, name), 0) + 1
        name = name if count == 1 else f"{name} ({count})"
        element = ET.SubElement(suite, "testcase", {"classname": group, "name": name, "time": f"{case.seconds:.3f}"})
        if case.reason:
            reason = clean(case.reason, TEXT_LENGTH)
            ET.SubElement(element, case.kind, {"message": reason, "type": case.group}).text = reason
        if case.details:
            ET.SubElement(element, "system-out").text = clean(case.details, TEXT_LENGTH)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _cases(report: Report) -> Iterator[Case]:
    for row in report.rows:
        yield from _row(report, row)
    for control in report.controls:
        missed = control.applicable and not control.detected
        reason = f"control not detected: {control.detail}" if missed else ""
        details = _figure("relative L2", control.relative_l2) if control.applicable else control.detail
        yield Case("control", control.name, reason, details=details)
    if not report.controls:
        yield Case("control", "negative controls", "no negative control was run", "error")
    yield _separation(report)
    for failure in report.failures:
        yield Case("format", failure.partition(":")[0], failure, "error")
    yield Case(
        "verdict", "verdict", "" if report.verdict == "pass" else f"{report.verdict}: {'; '.join(report.reasons)}"
    )


def _row(report: Report, row: Comparison) -> Iterator[Case]:
    name = run_name(row.subject, row.precision, row.runtime, row.device)
    taken = report.timings.get(f"verify {name}", row.seconds or 0.0)
    precision = "" if row.precision == "float32" else f" {row.precision}"
    where = f"{row.subject}{precision} in {row.runtime} on {row.device}"
    if not row.outputs:
        yield Case("parity", where, row.error or "no output was compared", "error", taken)
    for output in row.outputs:
        reason = "" if output.passed else output.reason or "failed"
        details = _details(report, output)
        yield Case("parity", f"{where}: {output.output}", reason, seconds=taken / len(row.outputs), details=details)


def _details(report: Report, output: OutputResult) -> str:
    bound = report.tolerances.get(output.output)
    figures = [
        _figure("relative L2", output.relative_l2),
        _figure("max|d| / max|reference|", output.relative_max),
        _figure("noise", bound.noise if bound else None),
        _figure("times the noise", output.multiple),
        _figure("tolerance", bound.value if bound else None),
    ]
    return f"{output.domain}: {', '.join(each for each in figures if each)}"


def _separation(report: Report) -> Case:
    """Whether the samples excite every output as much as `converter.proof.verdict` requires."""
    measured = [f"{name} {report.separation.get(name, 0.0):.3g}" for name in report.tolerances]
    close = unexcited(report.controls, report.separation, report.tolerances) if report.controls else []
    reason = "; ".join(close) if measured else "not measured"
    return Case("separation", "separation of the samples", reason, details=", ".join(measured))


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    yield "verdict", report.verdict
    yield "exit_code", str(report.exit_code)
    yield "seed", str(report.seed)
    yield "directory", report.directory
    versions = report.environment.get("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        yield f"version of {name}", str(version)


def _figure(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.3g}"
