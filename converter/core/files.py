"""What a file of an artifact directory was when it was written: its size and its hash, taken and compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from converter.core.errors import InputError


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and sha256 (lower-case hex) of a file as it was written."""

    size: int
    sha256: str

    def problem(self, path: Path) -> str:
        """How `path` differs from this record, or "". Raises OSError."""
        if not path.is_file():
            return "missing"
        size = path.stat().st_size
        if size != self.size:
            return f"damaged, {size} bytes instead of {self.size}"
        return "" if sha256_of(path) == self.sha256 else "damaged, its sha256 is not the one in the manifest"


def recorded(path: Path) -> FileRecord:
    """The record of `path` as it is. Raises OSError."""
    return FileRecord(path.stat().st_size, sha256_of(path))


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, lower-case hex. Raises OSError."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_under(path: Path, directory: Path) -> list[str]:
    """`path`, or every file under it, relative to `directory`. Raises InputError for a link, OSError as it comes."""
    if path.is_symlink():
        raise InputError(f"{path}: a link; an artifact directory holds files of its own")
    if not path.is_dir():
        return [path.relative_to(directory).as_posix()]
    return [name for each in sorted(path.iterdir()) for name in files_under(each, directory)]
