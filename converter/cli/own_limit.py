"""The memory that a command itself may take while it builds, predicts and traces what a model file describes.

The processes that run artifacts have limits of their own (`converter.core.limits`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from converter.cli.streams import Progress
from converter.core.foreign import ClickValue

FILES = "model", "weights", "inputs", "calibration"
"""The parameters that may be paths of files whose size the limit follows"""


def within_own_limit(command: Callable[..., ClickValue]) -> Callable[..., ClickValue]:
    """`command`, ended with exit code 8 above its limit: that of --memory-limit, or of its files and the machine."""

    @functools.wraps(command)
    def limited(**given: ClickValue) -> ClickValue:
        from converter.core.limits import own_memory_limited

        with own_memory_limited(limit_of(given), lambda: Progress.stage() or "the model"):
            return command(**given)

    return limited


def limit_of(given: Mapping[str, ClickValue]) -> int:
    """The bytes that a command with the parameters `given` may take. Raises UsageError."""
    from converter.core.limits import SHARE, available, limits_for, limits_of, size_of
    from converter.sources.names import FILE_SUFFIXES

    chosen = limits_of(given.get("memory_limit"), None).memory
    if chosen is not None:
        return chosen
    machine = int(SHARE * available())
    files = [Path(each) for name in FILES if isinstance(each := given.get(name), str | Path)]
    foreign = any(each.suffix.lower() in FILE_SUFFIXES for each in files)
    return min(machine, limits_for(sum(map(size_of, files))).memory or machine) if foreign else machine
