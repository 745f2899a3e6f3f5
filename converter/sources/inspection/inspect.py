"""The parent's side of inspecting a file: start the child, limit its time, turn what it reports into an error.

The child's side is `converter.sources.inspection.child`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from converter.core.ending import PARENT
from converter.core.errors import ChildError, CnnExportError, InputError
from converter.core.text import last_line
from converter.sources.inspection.protocol import Answer, Request, read_answer, to_text

SECONDS = 20  # of processor time for any file, and one more for every 25 MB
BYTES_PER_SECOND = 25_000_000
WAITING, SLOWEST = 600, 1_000_000
"""Seconds in which any file is read, however busy the machine is, and the bytes of one more: a disk may be slow."""
PACKAGES = Path(__file__).resolve().parents[3]
"""The directory from which the child imports this package."""


def inspect_file(request: Request, title: str) -> Answer:
    """What the child finds in `request.path`; messages begin with `title`, the user's name for the file.

    Its processor time is limited by the file's size, and so, in minutes, is the time that it may wait for disk and
    processor. Raises InputError or UnsafeError where the child reports one, ChildError where it crashed or took too
    much memory or time.
    """
    size = request.path.stat().st_size
    seconds, patience = SECONDS + int(size / BYTES_PER_SECOND), WAITING + size / SLOWEST
    request = replace(request, path=request.path.resolve(), seconds=seconds)
    environment = os.environ | {
        PARENT: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH")))),
        "OPENBLAS_NUM_THREADS": "1",  # each thread of it would reserve address space that the limit counts
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "converter.sources.inspection.child"],
            input=to_text(request),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(_too_long(title, f"{patience:.0f} s")) from error
    if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:  # its own limit
        raise ChildError(_too_long(title, f"{seconds} s of processor time"))
    answer = _answer(done)
    if answer is None:
        raise ChildError(
            f"{title}: the process that inspects it ended with status {done.returncode}: "
            f"{last_line(done.stderr, 200) or 'no message'}\n"
            "the file is damaged or malicious; it was not loaded"
        )
    if isinstance(answer, CnnExportError):
        raise type(answer)(f"{title}: {answer}")
    return answer


def _answer(done: subprocess.CompletedProcess[str]) -> Answer | CnnExportError | None:
    """What the child wrote, None where it failed or wrote something else."""
    if done.returncode != 0:
        return None
    try:
        return read_answer(done.stdout)
    except (ValueError, InputError):
        return None


def _too_long(title: str, limit: str) -> str:
    return f"{title}: inspecting it took too long, more than {limit}\nit was not loaded; try again, or save it again"
