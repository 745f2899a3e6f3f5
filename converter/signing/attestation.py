"""The verdict as an in-toto attestation: a Statement with the predicate "Test Result".

Sources: in-toto Attestation Framework v1 (Statement), and its predicate test-result v0.1. The statement is not signed
by itself: it is one of the files that the signature of the directory covers.
"""

from __future__ import annotations

from collections.abc import Iterator

from converter.bundle.proven import Proven
from converter.core.foreign import JsonObject

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
RESULTS = {"pass": "PASSED", "fail": "FAILED"}


def statement(proven: Proven) -> JsonObject:
    """The subjects are all files of the manifest; each row of the report and each control is a test."""
    manifest, report = proven.manifest, proven.report
    subjects = [{"name": name, "digest": {"sha256": each.sha256}} for name, each in sorted(manifest.files.items())]
    passed = sorted(name for name, good in _tests(report) if good)
    return {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "result": RESULTS.get(str(report["verdict"]), "WARNED"),
            "configuration": [
                {"name": name, "digest": {"sha256": manifest.files[name].sha256}}
                for name in sorted(manifest.files)
                if name.startswith("golden")
            ],
            "passedTests": passed,
            "warnedTests": [],
            "failedTests": sorted(name for name, good in _tests(report) if not good),
        },
    }


def _tests(report: JsonObject) -> Iterator[tuple[str, bool]]:
    """Each comparison and each applicable control of a report, and whether it came out as it should."""
    for row in report.get("rows", []):
        precision = "" if row["precision"] == "float32" else f" {row['precision']}"
        yield f"{row['subject']}{precision} in {row['runtime']} on {row['device']}", bool(row["passed"])
    for control in report.get("controls", []):
        if control["applicable"]:
            yield f"control: {control['name']}", bool(control["detected"])
