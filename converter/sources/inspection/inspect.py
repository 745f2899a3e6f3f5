"""The parent's side of `inspect_child`: start it, wait no longer than it may take, turn its answer into an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from converter.core import errors
from converter.core.errors import ChildError

SECONDS = 8  # for any file, and one more for every 50 MB
BYTES_PER_SECOND = 50_000_000


def inspect_file(
    path: Path,
    directory: Path,
    title: str,
    *,
    custom: Collection[str] = (),
    trust: bool = False,
    weights_only: bool = False,
) -> dict[str, Any]:
    """What the child's `inspect` finds in `path`; the weights of an archive are put in `directory`.

    `custom` are names of classes and functions that the user provides; `weights_only` leaves the configuration alone.
    Raises InputError or UnsafeError, as the child judges, and ChildError where it crashed or took too much.
    """
    seconds = SECONDS + int(path.stat().st_size / BYTES_PER_SECOND)
    request = {
        "path": str(path.resolve()),
        "directory": str(directory),
        "custom": sorted(custom),
        "trust": trust,
        "weights_only": weights_only,
        "seconds": seconds,
    }
    package = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        "OPENBLAS_NUM_THREADS": "1",  # each thread of it would reserve address space that the limit counts
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "converter.sources.inspection.child"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            timeout=seconds + 2,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(_too_long(title, seconds)) from error
    if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:  # its own limit, which comes first on an idle machine
        raise ChildError(_too_long(title, seconds))
    try:
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise ChildError(
            f"{title}: the process that inspects it ended with status {done.returncode}: {last}\n"
            "the file is damaged or malicious; it was not loaded"
        )
    if "error" in answer:
        kind: type[errors.CnnExportError] = getattr(errors, answer["error"])
        raise kind(f"{title}: {answer['message']}")
    return answer


def _too_long(title: str, seconds: int) -> str:
    return f"{title}: inspecting it took more than {seconds} s\nthe file is damaged or malicious"
