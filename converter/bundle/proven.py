"""An export that passed its proof and whose files are intact: what may be packaged and signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.bundle.manifest import GOLDEN, MANIFEST, MAX_BYTES, REPORT, Manifest, check_hashes, read_manifest
from converter.core.errors import InconclusiveError, InputError, ParityError
from converter.core.foreign import JsonObject
from converter.core.jsonable import read_json


@dataclass(frozen=True)
class Proven:
    """An export that passed its proof and whose files are intact; `report` is its report.json."""

    directory: Path
    manifest: Manifest
    report: JsonObject


def read_proven(directory: Path, done: str = "packaged") -> Proven:
    """The export in `directory`, which is to be `done`.

    Raises InputError if it is not an intact export, ParityError if its verdict is "fail", InconclusiveError if it is
    not "pass" either.
    """
    manifest = read_manifest(directory)
    if not check_hashes(directory, manifest):
        raise InputError(f"{directory / GOLDEN}: damaged, its sha256 differs from the one in {MANIFEST}")
    report = read_json(directory / REPORT, MAX_BYTES * 4, "a report of cnnexport")
    verdict = report.get("verdict") if isinstance(report, dict) else None
    if verdict != "pass":
        kind = ParityError if verdict == "fail" else InconclusiveError
        raise kind(f"{directory}: not {done}, its verdict is {verdict}\nexport the model again")
    return Proven(directory, manifest, report)
