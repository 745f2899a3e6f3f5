"""What the system says when it refuses to write: a full disk, a read-only or another file system, missing rights."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.core.errors import CnnExportError, OutputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Only writing ends like this, so that libraries may report it as a text of their own."""

REFUSED = (*FULL, errno.EACCES, errno.EPERM, errno.EXDEV, errno.ENAMETOOLONG, errno.EIO)
"""For an OSError that nobody expected: what is read, is read where these are errors of the input."""

NO_TEMPORARY = "No usable temporary directory"  # of tempfile, with the code of a missing file
ADVICE = "make room or change the rights, or give another --output or another $TMPDIR"


@contextmanager
def writing(where: str | Path = "") -> Iterator[None]:
    """Within the context, an error of a disk that cannot be written becomes an OutputError about `where`.

    Without `where`, nothing but temporary files is written. It may also decorate a function.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        found = output_error(error, where, FULL if isinstance(error, CnnExportError) else REFUSED)
        if found is None:
            raise
        raise found from error


def output_error(error: BaseException, where: str | Path = "", codes: Collection[int] = REFUSED) -> OutputError | None:
    """The OutputError that says what `error`, or what it was raised from, says of a disk; None for other errors.

    It names the file that the system refused. Where the system names none, that is `where` or a temporary file.
    `codes` are those of an OSError that counts.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        reason = _reason(found, codes)
        if reason:
            return OutputError(f"{_place(found, str(where))}: cannot be written: {reason}\n{ADVICE}")
        found = found.__cause__ or found.__context__
    return None


def _place(error: BaseException, where: str) -> str:
    """What cannot be written: the file that `error` names, or else all that is written."""
    path = getattr(error, "filename2", None) or getattr(error, "filename", None)  # where a copy or a move goes
    if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path) != where:
        return f"{where} ({os.fsdecode(path)})" if where else os.fsdecode(path)
    temporary = f"the temporary files in {_temporary()}"
    return where if path is not None and where else f"{where}, or {temporary}" if where else temporary


def _reason(error: BaseException, codes: Collection[int]) -> str:
    """Why the system refused to write, "" if `error` does not say that."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno in codes:
        return error.strerror or os.strerror(error.errno)
    if isinstance(error, OSError) and NO_TEMPORARY in text:
        return text
    return next((os.strerror(code) for code in FULL if os.strerror(code) in text), "")


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "") or "the usual places"
