"""What is on this machine: versions, reasons why a runtime cannot be used, the processor; and names paired strictly."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from converter.core.errors import InputError


def installed(*distributions: str) -> str | None:
    """The version of the first of `distributions` that is installed, or None. Imports nothing of them."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def missing(module: str, extra: str) -> str | None:
    """Why `module` cannot be used, with the extra of cnnexport that installs it, or None. Nothing is imported."""
    if importlib.util.find_spec(module) is None:
        return f'{module} is not installed; pip install "cnnexport[{extra}]"'
    return None


def require_names(path: Path, what: str, declared: Sequence[str], found: Sequence[str]) -> None:
    """Raise InputError unless `found` holds exactly the names of `declared`, each once; `what` is "input" or "output".

    A name that only one side has is never paired by position: that is how outputs get mixed up.
    """
    if sorted(declared) != sorted(found):
        raise InputError(
            f"{path}: its {what}s are {', '.join(sorted(found))[:200] or '(none)'}, "
            f"and the manifest declares {', '.join(sorted(declared))[:200]}"
        )


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def threads() -> int:
    """How many threads a runtime may use: the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
