"""The artifact directory on disk: built beside its place, put there in one step, and read back.

An export is built in `.NAME.partial-PID-RANDOM` next to NAME and swapped in when it is complete; `.NAME.lock` keeps a
second export out meanwhile, and whatever a killed one left is cleared away by the next, which holds that lock. At any
moment NAME is the previous export or the new one. Without an atomic exchange (Linux's renameat2) NAME is away between
two renames, as `.NAME.previous`, and the next `stage` puts it back.

Nothing of the user's is ever deleted: a directory is replaced only where its manifest lists every file in it.
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

from converter.bundle.manifest import MANIFEST, listed, read_manifest
from converter.core.errors import InputError, OutputError

RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100  # linux/fcntl.h


class Staging:
    """An export under construction in the directory `path`; `committed` is where it went, once it did."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path = path
        self.directory = directory
        self.committed: Path | None = None

    def commit(self, target: Path | None = None) -> Path:
        """Make what lies in `path` the content of `target`, by default the staged directory, and return that.

        What `target` held goes away in the same step; if it is not an export of ours, it stays and OutputError is
        raised, as it is when `path` has no manifest, when `target` is locked or cannot be written, and the second time.
        """
        if self.committed is not None:
            raise OutputError(f"{self.directory}: already written to {self.committed}")
        if not (self.path / MANIFEST).is_file():
            raise OutputError(f"{self.directory}: the export has no {MANIFEST} yet, so it is not complete")
        if target is None or _real(target) == self.directory:
            self._commit(self.directory)
        else:
            real = _real(target)
            with _lock(real):
                _clear(real)
                self._commit(real)
        return self.directory if self.committed is None else self.committed

    def _commit(self, target: Path) -> None:
        _refuse(target)
        with _reported(target):
            _swap(self.path, target)
            self.committed = target
            _sync(target)
            _sync(target.parent)


@contextlib.contextmanager
def stage(directory: Path) -> Iterator[Staging]:
    """Lock `directory` and give a place to build its next content in; without a commit, everything stays as it was.

    Raises OutputError where another process holds the lock, `directory` is a file, is not empty and not an export, or
    holds files that its manifest does not list, and where its parent cannot be created or written.
    """
    target = _real(directory)
    with _lock(target):
        _clear(target)
        _refuse(target)
        path = _partial(target)
        with _reported(target):
            path.mkdir()
        try:
            yield Staging(path, target)
        finally:
            shutil.rmtree(path, ignore_errors=True)  # the staging, or what it was exchanged for


def refuse_other_source(directory: Path, identity: str) -> None:
    """Raise OutputError where `directory` holds the export of another source than that of `identity`.

    What is no export, or was written before identities were recorded, is left to `stage`.
    """
    try:
        source = read_manifest(directory).source if (directory / MANIFEST).is_file() else {}
    except (InputError, OSError, ValueError):
        return
    known = source.get("identity")
    if isinstance(known, str) and known != identity:
        raise OutputError(
            f"{directory}: holds the export of another source ({known[:100]})\n"
            "give another directory with --output, or --force to replace that export"
        )


def locate(path: Path) -> tuple[Path, str | None]:
    """The artifact directory that `path` is or lies in, and the name there of the one file or folder that `path` is.

    Raises InputError for a file without a manifest beside it.
    """
    try:
        if path.name == MANIFEST and path.is_file():
            return path.parent, None
        if path.is_file() and not (path.parent / MANIFEST).is_file():
            raise InputError(f"{path}: no {MANIFEST} beside it; give a file of the directory that an export wrote")
        inside = not (path / MANIFEST).is_file() and path.exists() and (path.parent / MANIFEST).is_file()
    except (OSError, ValueError):  # read_manifest says what is wrong with it
        inside = False
    return (path.parent, path.name) if inside else (path, None)


def _real(directory: Path) -> Path:
    """`directory` without links, so that what is beside it is on its filesystem."""
    try:
        real = Path(os.path.realpath(directory))
    except (OSError, ValueError) as error:
        raise OutputError(f"{directory}: {error}") from error
    if not real.name:
        raise OutputError(f"{directory}: cannot be replaced; give a directory of its own")
    return real


@contextlib.contextmanager
def _reported(target: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError about `target`."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(target) else ""
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}{where}") from error


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold `.NAME.lock` beside `target`, whose parents are created, and removed again where nothing was put there."""
    from filelock import FileLock, Timeout  # not needed to read an export

    path = target.with_name(f".{target.name}.lock")
    missing = [parent for parent in target.parents if not parent.exists()]
    with _reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"{target}: another cnnexport is writing it; wait for it, or give another --output"
            ) from error
        except NotImplementedError as error:
            raise OutputError(f"{target}: its filesystem has no file locks; give another --output") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while held: filelock takes no lock on a file that was deleted since it was opened
        lock.release()
        with contextlib.suppress(OSError):
            for parent in missing:
                parent.rmdir()


def _refuse(target: Path) -> None:
    """Raise OutputError unless `target` does not exist, is an empty directory, or holds an export and nothing else."""
    with _reported(target):
        if not os.path.lexists(target):
            return
        if not target.is_dir():
            raise OutputError(f"{target}: is a file; give a directory to --output")
        if target.is_mount():
            raise OutputError(f"{target}: is a mount point, which cannot be replaced; give a directory inside it")
        if not any(target.iterdir()):
            return
        found = _content(target)
    if MANIFEST not in found:
        raise OutputError(f"{target}: not empty, and no export (it has no {MANIFEST}); give another --output")
    try:
        known = listed(read_manifest(target))
    except InputError as error:
        raise OutputError(f"{target}: not replaced, since its manifest does not say what is in it\n{error}") from error
    foreign = sorted(set(found) - known)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        names = ", ".join(ascii(name) for name in foreign[:3])
        raise OutputError(f"{target}: holds {names}{more}, not listed in its {MANIFEST}; move that away first")


def _content(directory: Path) -> list[str]:
    """Every file and link under `directory`, as relative POSIX paths."""
    found = []
    for root, folders, files in os.walk(directory, onerror=_raise):
        names = [*files, *(name for name in folders if Path(root, name).is_symlink())]
        found += [Path(root, name).relative_to(directory).as_posix() for name in names]
    return found


def _raise(error: OSError) -> None:
    raise error


def _clear(target: Path) -> None:
    """Put back what an interrupted swap left as `.NAME.previous`, and remove stagings; the lock is held.

    Since it is, no living process owns a staging of this name. A `.NAME.previous` beside a NAME is the replaced export.
    """
    previous = _previous(target)
    with _reported(target):
        if previous.is_dir() and not os.path.lexists(target):
            previous.rename(target)
        elif previous.is_dir():
            _refuse(previous)
            previous.rename(_partial(target))
        partial = re.compile(rf"\.{re.escape(target.name)}\.partial-[0-9]+-[0-9a-f]{{8}}")
        for each in target.parent.iterdir():
            if partial.fullmatch(each.name) and each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)


def _swap(staged: Path, target: Path) -> None:
    """`staged` becomes `target`; what `target` was is then at `staged`, or gone where it was nothing or empty."""
    if os.path.lexists(target) and any(target.iterdir()):
        if not _exchange(staged, target):
            _swap_in_two(staged, target)
        return
    if target.is_dir():
        target.rmdir()
    staged.rename(target)


def _swap_in_two(staged: Path, target: Path) -> None:
    """The swap for systems without an exchange; interrupted between its renames, `_clear` finishes it."""
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
    """Exchange two paths atomically by renameat2(2); False where the system or the filesystem cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    status: int = renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], ctypes.c_uint(RENAME_EXCHANGE))
    return status == 0


def _sync(directory: Path) -> None:
    """Make renames in `directory` durable, where the system can open directories."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
