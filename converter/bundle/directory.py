"""The artifact directory on disk: built beside its final place and moved there in one step.

An export is built in `.NAME.partial-PID-RANDOM` next to NAME and swapped in when it is complete. Meanwhile `.NAME.lock`
keeps other exports out; the next export that gets the lock removes what a killed one left. At any moment NAME is either
the previous export or the new one. Without an atomic exchange (Linux's renameat2), NAME is missing between two renames
and exists as `.NAME.previous`; the next `stage` restores it.

Files of the user are never deleted: a directory is replaced only if its manifest lists every file in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from converter.bundle.manifest import MANIFEST, known_files, read_manifest
from converter.core.ending import COMMITTING, removed_at_end
from converter.core.errors import InputError, OutputError

RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100  # linux/fcntl.h


class Staging:
    """An export under construction in the directory `path`; `committed` is its final place, None before the commit."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path = path
        self.directory = directory
        self.committed: Path | None = None

    def commit(self, target: Path | None = None) -> Path:
        """Move the content of `path` to `target`, by default the staged directory, and return the target.

        The previous content of `target` is removed in the same step. Raises OutputError if `target` is not an export
        (it is kept), is locked or cannot be written, if `path` has no manifest, and on a second call.
        """
        if self.committed is not None:
            raise OutputError(f"{self.directory}: already written to {self.committed}")
        if not (self.path / MANIFEST).is_file():
            raise OutputError(f"{self.directory}: the export is not complete, it has no {MANIFEST} yet")
        if target is None or _resolve(target) == self.directory:
            self._commit(self.directory)
        else:
            real = _resolve(target)
            with _lock(real):
                _clean_up(real)
                self._commit(real)
        return self.directory if self.committed is None else self.committed

    def _commit(self, target: Path) -> None:
        _check_replaceable(target)
        with COMMITTING, _output_errors(target):
            _swap(self.path, target)
            self.committed = target
            _sync(target)
            _sync(target.parent)


@contextlib.contextmanager
def stage(directory: Path) -> Iterator[Staging]:
    """Lock `directory` and provide a place to build its next content. Without a commit nothing changes.

    Raises OutputError if another process has the lock, if `directory` is a file, is not empty and not an export, or
    contains files that its manifest does not list, and if its parent cannot be created or written.
    """
    target = _resolve(directory)
    with _lock(target):
        _clean_up(target)
        _check_replaceable(target)
        path = _partial(target)
        with _output_errors(target):
            path.mkdir()
        try:
            with removed_at_end(path):
                yield Staging(path, target)
        finally:
            shutil.rmtree(path, ignore_errors=True)  # the staging, or the export that it was exchanged with


def refuse_other_source(directory: Path, identity: str) -> None:
    """Raise OutputError if `directory` contains the export of a source other than `identity`.

    A directory that is not an export, or whose manifest has no identity, is left to `stage`.
    """
    try:
        source = read_manifest(directory).source if (directory / MANIFEST).is_file() else {}
    except (InputError, OSError, ValueError):
        return
    known = source.get("identity")
    if isinstance(known, str) and known != identity:
        raise OutputError(
            f"{directory}: contains the export of another source ({known[:100]})\n"
            "give another directory with --output, or replace that export with --force"
        )


def locate(path: Path) -> tuple[Path, str | None]:
    """The artifact directory of `path`, and the name of the artifact in it if `path` is one artifact, otherwise None.

    Raises InputError for a file without a manifest beside it.
    """
    try:
        if path.name == MANIFEST and path.is_file():
            return path.parent, None
        if path.is_file() and not (path.parent / MANIFEST).is_file():
            raise InputError(f"{path}: no {MANIFEST} in its directory; give a file in a directory that an export wrote")
        inside = not (path / MANIFEST).is_file() and path.exists() and (path.parent / MANIFEST).is_file()
    except (OSError, ValueError):  # read_manifest reports the reason
        inside = False
    return (path.parent, path.name) if inside else (path, None)


def _resolve(directory: Path) -> Path:
    """`directory` with links resolved, so that temporary names beside it are on the same filesystem."""
    try:
        real = Path(os.path.realpath(directory))
    except (OSError, ValueError) as error:
        raise OutputError(f"{directory}: {error}") from error
    if not real.name:
        raise OutputError(f"{directory}: cannot be replaced by an export; give another directory")
    return real


@contextlib.contextmanager
def _output_errors(target: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError about `target`."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(target) else ""
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}{where}") from error


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold `.NAME.lock` beside `target`.

    Missing parent directories are created, and removed again at the end if they are still empty.
    """
    from filelock import FileLock, Timeout  # not needed to read an export

    path = target.with_name(f".{target.name}.lock")
    missing = [parent for parent in target.parents if not parent.exists()]
    with _output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"{target}: another cnnexport process is writing it; wait, or give another --output"
            ) from error
        except NotImplementedError as error:
            raise OutputError(f"{target}: its filesystem does not support file locks; give another --output") from error
    try:
        with removed_at_end(path):
            yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the release: filelock rejects a lock file that was deleted after it was opened
        lock.release()
        with contextlib.suppress(OSError):
            for parent in missing:
                parent.rmdir()


def _check_replaceable(target: Path) -> None:
    """Raise OutputError unless `target` is missing, an empty directory, or an export without other files in it."""
    with _output_errors(target):
        if not os.path.lexists(target):
            return
        if not target.is_dir():
            raise OutputError(f"{target}: is a file; --output needs a directory")
        if target.is_mount():
            raise OutputError(f"{target}: is a mount point, which cannot be replaced; give a directory inside it")
        if not any(target.iterdir()):
            return
        found = _files_in(target)
    if MANIFEST not in found:
        raise OutputError(f"{target}: not empty and not an export (no {MANIFEST}); give another --output")
    try:
        known = known_files(read_manifest(target))
    except InputError as error:
        raise OutputError(f"{target}: not replaced, because its manifest cannot be read\n{error}") from error
    foreign = sorted(set(found) - known)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        names = ", ".join(ascii(name) for name in foreign[:3])
        raise OutputError(f"{target}: contains {names}{more}, not listed in its {MANIFEST}; move them away first")


def _files_in(directory: Path) -> list[str]:
    """Every file and link under `directory`, as relative POSIX paths."""
    found = []
    for root, folders, files in os.walk(directory, onerror=_raise):
        names = [*files, *(name for name in folders if Path(root, name).is_symlink())]
        found += [Path(root, name).relative_to(directory).as_posix() for name in names]
    return found


def _raise(error: OSError) -> None:
    raise error


def _clean_up(target: Path) -> None:
    """Restore what an interrupted swap left as `.NAME.previous`, and remove abandoned stagings.

    The caller has the lock, so no living process owns a staging of this name. If NAME exists too, `.NAME.previous` is
    the export that it replaced.
    """
    previous = _previous(target)
    with _output_errors(target):
        if previous.is_dir() and not os.path.lexists(target):
            previous.rename(target)
        elif previous.is_dir():
            _check_replaceable(previous)
            previous.rename(_partial(target))
        partial = re.compile(rf"\.{re.escape(target.name)}\.partial-[0-9]+-[0-9a-f]{{8}}")
        for each in target.parent.iterdir():
            if partial.fullmatch(each.name) and each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)


def _swap(staged: Path, target: Path) -> None:
    """Move `staged` to `target`. A previous export at `target` is then at `staged`."""
    if os.path.lexists(target) and any(target.iterdir()):
        if not _exchange(staged, target):
            _swap_in_two(staged, target)
        return
    if target.is_dir():
        target.rmdir()
    staged.rename(target)


def _swap_in_two(staged: Path, target: Path) -> None:
    """The swap on systems without an exchange. If it is interrupted between its renames, `_clean_up` finishes it."""
    previous = _previous(target)
    target.rename(previous)
    try:
        staged.rename(target)
    finally:
        if not target.exists():
            previous.rename(target)
    previous.rename(staged)


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths atomically with renameat2(2). Returns False if this is not supported here."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    status: int = renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], ctypes.c_uint(RENAME_EXCHANGE))
    return status == 0


def _sync(directory: Path) -> None:
    """Make renames in `directory` durable, if the system can open directories."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
