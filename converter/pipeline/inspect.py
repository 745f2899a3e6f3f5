"""`inspect`: what artifacts are made of, and what two of them do not have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.bundle.manifest import MANIFEST, read_manifest
from converter.core.errors import UsageError
from converter.inspection.describe import Described, describe, difference
from converter.pipeline.checks import path_of
from converter.pipeline.options import PathText


@dataclass(frozen=True)
class InspectResult:
    """The artifacts; `difference` has the values of the first and of the second one by name, if there are two."""

    files: tuple[Described, ...]
    difference: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    schema: int = 1


def inspect(path: PathText, other: PathText | None = None) -> InspectResult:
    """What the artifact `path` is made of, or every artifact of an export; with `other`, the difference of two.

    Nothing is run. Raises InputError for what is no artifact or damaged, UnsafeError for a SavedModel that accesses
    files, UsageError for the difference of an export of several artifacts, UnavailableError where the package that
    reads a format is missing.
    """
    files = _artifacts(path_of(path, "path"))
    if other is None:
        return InspectResult(tuple(map(describe, files)))
    pairs = [files, _artifacts(path_of(other, "other"))]
    for given, found in zip((path, other), pairs, strict=True):
        if len(found) != 1:
            raise UsageError(f"{given}: has {len(found)} artifacts\ngive one of them: {found[0]}")
    one, two = (describe(found[0]) for found in pairs)
    return InspectResult((one, two), difference(one, two))


def _artifacts(path: Path) -> list[Path]:
    """The artifacts of an export, or `path` itself."""
    if (path / MANIFEST).is_file():
        return [path / each.path for each in read_manifest(path).artifacts]
    return [path]
