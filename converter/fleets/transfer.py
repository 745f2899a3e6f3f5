"""Artifacts from a worker that does not see the target directory: fetched in pieces, with their hashes checked."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from converter.bundle.directory import stage
from converter.core.errors import InputError
from converter.fleets.work import PREFIX, UNPROVEN, Outcome

PIECE = 4 << 20
"""Bytes that are fetched at once."""

Fetch = Callable[[str, int, int], bytes]
"""Called with a path on the worker, an offset and a length; returns the bytes there"""


def read_piece(path: str, offset: int, length: int) -> bytes:
    """Part of a file; runs on the worker. Raises OSError."""
    with Path(path).open("rb") as stream:
        stream.seek(offset)
        return stream.read(min(length, PIECE))


def discard(root: str) -> None:
    """Remove what was fetched; runs on the worker. Only a directory that `converter.fleets.work` made is removed."""
    scratch = Path(root).parent
    if scratch.name.startswith(PREFIX):
        shutil.rmtree(scratch, ignore_errors=True)


def seen(path: str) -> str:
    """The content of a small file, "" if it cannot be read; runs on the worker."""
    try:
        return Path(path).read_text(encoding="ascii")[:64]
    except (OSError, ValueError):
        return ""


def shared_by_all(output: Path, ask: Callable[[str], Sequence[str]]) -> bool:
    """Whether every worker sees the directory `output`: `ask` returns what each reads from a path. Raises OSError."""
    output.mkdir(parents=True, exist_ok=True)
    probe = output.resolve() / f".fleet-probe-{secrets.token_hex(8)}"
    token = secrets.token_hex(16)
    try:
        probe.write_text(token, encoding="ascii")
        answers = ask(str(probe))
    finally:
        probe.unlink(missing_ok=True)
    return bool(answers) and all(each == token for each in answers)


def receive(outcome: Outcome, target: Path, fetch: Fetch) -> Path:
    """Fetch the files of `outcome` into `target`, in one step, and return where they are.

    An export that is not proven goes to `<target>.unproven`. Raises InputError for a file whose bytes are not those
    that the worker hashed, or whose name leads out of the directory, OutputError if the target cannot be written.
    """
    target = target if outcome.exit_code == 0 else target.with_name(target.name + UNPROVEN)
    with stage(target) as staging:
        for name, size, sha256 in outcome.files:
            pure = PurePosixPath(name)
            if pure.is_absolute() or ".." in pure.parts or "\\" in name:
                raise InputError(f"{target}: the worker sent a file named {name!r}, which is outside of the directory")
            path = staging.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _receive_file(path, f"{outcome.root}/{name}", (size, sha256), fetch)
        staging.commit()
    return target


def _receive_file(path: Path, source: str, record: tuple[int, str], fetch: Fetch) -> None:
    size, sha256 = record
    digest, offset = hashlib.sha256(), 0
    with path.open("xb") as stream:
        while offset < size:
            piece = fetch(source, offset, min(PIECE, size - offset))
            if not piece:
                break
            digest.update(piece)
            stream.write(piece)
            offset += len(piece)
    if offset != size or digest.hexdigest() != sha256:
        raise InputError(f"{path.name}: damaged on the way from the worker: its sha256 differs from the worker's")
