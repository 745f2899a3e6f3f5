"""Where a report goes: the terminal, the files asked for, annotations in GitHub Actions; and the exit code.

What can be refused is refused before the work: an export of minutes must not end in a path that cannot be written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from converter.core.errors import OutputError, UsageError
from converter.core.text import printable

if TYPE_CHECKING:
    from converter.core.results import Report


OWN = {"as_json", "junit", "html", "debug"}
"""The options of `export` and `verify` that are about the report alone; the others are keywords of the functions."""


@dataclass(frozen=True)
class Wishes:
    """What the options of `export` and `verify` say about the report."""

    as_json: bool = False
    junit: Path | None = None
    html: Path | None = None


def wishes(given: Mapping[str, Any]) -> Wishes:
    """The wishes in the options `given`. Raises UsageError and OutputError for what could not be fulfilled later."""
    for name in ("junit", "html"):
        _check(f"--{name}", given[name])
    return Wishes(given["as_json"], given["junit"], given["html"])


def deliver(report: Report, wishes: Wishes, result: IO[str]) -> int:
    """Print `report` to `result`, write the files, annotate, and return the exit code. Raises OutputError."""
    from converter.report import github
    from converter.report.table import print_json, print_report

    (print_json if wishes.as_json else print_report)(report, result)
    lines = [line for failure in report.failures for line in printable(f"cnnexport: {failure}").splitlines()]
    if github.wanted(os.environ):
        lines += github.to_annotations(report)
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write("".join(f"{line}\n" for line in lines).encode(encoding, "replace").decode(encoding))
    sys.stderr.flush()
    if wishes.junit is not None:
        from converter.report.junit import to_junit

        _write("--junit", wishes.junit, to_junit(report))
    if wishes.html is not None:
        from converter.bundle.manifest import read_manifest
        from converter.report.html import to_html

        manifest = read_manifest(Path(report.directory))
        _write("--html", wishes.html, to_html(report, {name: each.sha256 for name, each in manifest.files.items()}))
    return report.exit_code


def _check(option: str, path: Path | None) -> None:
    """Refuse what could not be written, and what the next export would refuse to replace."""
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
            f"{option} {path}: that directory is an export, which holds nothing but its own files\n"
            "give a path outside of it"
        )


def _write(option: str, path: Path, text: str) -> None:
    _check(option, path)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{option} {path}: cannot be written: {error.strerror or error}") from error
