"""Size and hash of the files of an artifact directory: recorded when they are written, compared later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converter.core.errors import InputError


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and sha256 (lower-case hex) of a file when it was written."""

    size: int
    sha256: str

    def problem(self, path: Path) -> str:
        """How `path` differs from this record, or "" if it does not. Raises OSError."""
        if not path.is_file():
            return "missing"
        size = path.stat().st_size
        if size != self.size:
            return f"damaged, {size} bytes instead of {self.size}"
        return "" if sha256_of(path) == self.sha256 else "damaged, its sha256 differs from the one in the manifest"


def record_of(path: Path) -> FileRecord:
    """The record of the present content of `path`. Raises OSError."""
    return FileRecord(path.stat().st_size, sha256_of(path))


def digest_of(files: Mapping[str, FileRecord]) -> str:
    """One sha256 for a set of files: that of a line "SHA256  NAME" for each, sorted by name, as `sha256sum` prints."""
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of the content of a file, lower-case hex. Raises OSError."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_under(path: Path, directory: Path) -> list[str]:
    """The files at or under `path`, relative to `directory`.

    Raises InputError for a link, and OSError.
    """
    if path.is_symlink():
        raise InputError(f"{path}: is a link; an artifact directory must contain regular files only")
    if not path.is_dir():
        return [path.relative_to(directory).as_posix()]
    return [name for each in sorted(path.iterdir()) for name in files_under(each, directory)]
