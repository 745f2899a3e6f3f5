"""What is on this machine: installed packages, the processor, and how many threads a runtime may use."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path


def installed(*distributions: str) -> str | None:
    """The version of the first of `distributions` that is installed, or None. Imports none of them."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def missing(module: str, requirement: str) -> str | None:
    """None if `module` is installed, otherwise why it cannot be used, with the command that installs `requirement`.

    The module itself is not imported.
    """
    if importlib.util.find_spec(module) is None:
        return f'{module} is not installed; pip install "{requirement}"'
    return None


def cpu_name() -> str:
    """The processor's model name, or its architecture if the system does not report a name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def threads() -> int:
    """How many threads a runtime may use: the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
