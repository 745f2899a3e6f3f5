"""What a fleet knows from earlier runs: a small file for each task, below `.fleet` in the target directory.

A file is written before a task starts and after it ended, each time in one step. A task counts as done if its key is
the same and its directory has the manifest that was proven then, intact. If the run was interrupted between the commit
of an export and the second writing, the export is recognized by its manifest, which is not the one from before.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import quote

from converter.bundle.manifest import MANIFEST, REPORT, check_hashes, read_manifest
from converter.core.errors import InputError
from converter.core.files import sha256_of
from converter.core.foreign import JsonObject
from converter.core.jsonable import dumps, read_json
from converter.report.summary import summary_of

FOLDER = ".fleet"
MAX_BYTES = 64 << 20
STARTED, DONE = "started", "done"


def state_path(output: Path, kind: str, name: str) -> Path:
    """The file of the task `name`."""
    return output / FOLDER / "state" / f"{kind}-{quote(name, safe='')[-180:]}.json"


def read_state(path: Path) -> JsonObject:
    """The state in `path`; empty if there is none, or none that can be read."""
    try:
        value = read_json(path, MAX_BYTES, "the state of a task")
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def write_state(path: Path, state: JsonObject) -> None:
    """Write `state` in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(dumps(state), encoding="ascii")
    temporary.replace(path)


def manifest_hash(directory: Path) -> str:
    """The sha256 of the manifest in `directory`, "" if it has none."""
    try:
        return sha256_of(directory / MANIFEST)
    except OSError:
        return ""


def started(path: Path, key: str, directory: Path) -> None:
    """Record that the task with `key` begins; what is known of its memory stays."""
    known = {name: value for name, value in read_state(path).items() if name in ("memory", "seconds", "row", "done")}
    write_state(path, {**known, "key": key, "status": STARTED, "before": manifest_hash(directory)})


def done_before(state: JsonObject, key: str, directory: Path) -> JsonObject | None:
    """The summary of the task's proof if it was done with this `key` and its directory is still intact, else None."""
    if state.get("key") != key or not state:
        return None
    found = manifest_hash(directory)
    row = state.get("row")
    if state.get("status") == DONE:
        if state.get("exit_code") != 0 or state.get("manifest") != found or not isinstance(row, dict):
            return None
    elif not found or found == state.get("before"):
        return None
    try:
        check_hashes(directory, read_manifest(directory))
        if state.get("status") == STARTED:
            row = summary_of(read_json(directory / REPORT, MAX_BYTES, "a report of cnnexport"))
    except InputError:
        return None
    return row if isinstance(row, dict) and row.get("exit_code", 0) == 0 else None
