"""Delivers a report: to the terminal, to the requested files, and as annotations in GitHub Actions.

Invalid destinations are refused before the work starts, so that an export of minutes does not end with a path that
cannot be written.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from converter.core.errors import OutputError, UsageError
from converter.core.foreign import Given
from converter.core.text import printable

if TYPE_CHECKING:
    from converter.core.results import Report


REPORT_OPTIONS = {"as_json", "junit", "html", "debug", "log"}
"""The options of `export` and `verify` that concern only the report; the others are keywords of the API functions."""


@dataclass(frozen=True)
class Destinations:
    """The destinations of the report, from the options of `export` and `verify`."""

    as_json: bool = False
    junit: Path | None = None
    html: Path | None = None


def destinations(given: Given) -> Destinations:
    """The destinations in the options `given`.

    Raises UsageError or OutputError for a path that could not be written later.
    """
    for name in ("junit", "html"):
        _check(f"--{name}", given[name])
    return Destinations(given["as_json"], given["junit"], given["html"])


def deliver(report: Report, where: Destinations, result: IO[str]) -> int:
    """Print `report` to `result`, write the files and annotations, and return the exit code. Raises OutputError."""
    from converter.report import github
    from converter.report.table import print_json, print_report

    (print_json if where.as_json else print_report)(report, result)
    lines = [line for failure in report.failures for line in printable(f"cnnexport: {failure}").splitlines()]
    if github.in_github_actions(os.environ):
        lines += github.to_annotations(report)
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write("".join(f"{line}\n" for line in lines).encode(encoding, "replace").decode(encoding))
    sys.stderr.flush()
    if where.junit is not None:
        from converter.report.junit import to_junit

        _write("--junit", where.junit, to_junit(report))
    if where.html is not None:
        from converter.bundle.manifest import read_manifest
        from converter.report.html import to_html

        manifest = read_manifest(Path(report.directory))
        _write("--html", where.html, to_html(report, {name: each.sha256 for name, each in manifest.files.items()}))
    return report.exit_code


def _check(option: str, path: Path | None) -> None:
    """Refuse a path that cannot be written, or that would prevent the next export from replacing its directory."""
    from converter.bundle.manifest import MANIFEST, PAGE

    if path is None:
        return
    try:
        if not path.parent.is_dir():
            raise OutputError(f"{option} {path}: no such directory: {path.parent}\ncreate it first")
        if path.is_dir():
            raise OutputError(f"{option} {path}: is a directory; give a file")
        inside = (path.parent / MANIFEST).exists()
    except OSError as error:
        raise OutputError(f"{option} {path}: cannot be written: {error.strerror or error}") from error
    if inside and path.name != PAGE:
        raise UsageError(
            f"{option} {path}: its directory is an export, which must contain only its own files\n"
            "give a path outside of that directory"
        )


def _write(option: str, path: Path, text: str) -> None:
    _check(option, path)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{option} {path}: cannot be written: {error.strerror or error}") from error
