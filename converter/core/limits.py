"""The memory and the time that a child process may take, and the watcher that ends it there.

Limits of address space break TensorFlow and Node.js, which reserve much more than they use. So the parent looks at the
resident memory of the child and of its own children.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from converter.core.ending import descendants, end
from converter.core.errors import UsageError

SHARE = 0.9
"""Of the memory of the machine, or of the container, that a child may take"""

LEAST, MULTIPLE = 8 << 30, 16
"""Bytes that a child may take for any file, and more for each byte of the file"""

SECONDS, BYTES_PER_SECOND = 900.0, 10_000_000
"""Seconds that a child may take for any file, and the bytes of the file for which it gets one more"""

GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""The groups that this process belongs to, and their settings (cgroups(7))"""

_INTERVAL = 0.1  # seconds between two looks
_EVERY = 5  # looks at a child before one at its own children, which takes longer
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Limits:
    """Limits that the user set: bytes of memory and seconds for each child; None stands for the default."""

    memory: int | None = None
    seconds: float | None = None


def limits_of(memory: object, seconds: object) -> Limits:
    """The limits that are written `memory`, bytes or text as in 4G, and `seconds`. Raises UsageError."""
    size = memory
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*", memory, re.IGNORECASE)
        size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else None
        if size is None:
            raise UsageError(f"--memory-limit {memory}: expected bytes with a unit, as in 4G or 500M")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1 << 20):
        raise UsageError(f"--memory-limit {memory}: expected at least one megabyte, as in 4G or 500M")
    if seconds is None:
        return Limits(size)
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < float(str(seconds)) < math.inf:
        raise UsageError(f"--timeout {seconds}: expected seconds above 0")
    return Limits(size, float(str(seconds)))


_chosen: list[Limits] = [Limits()]


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Within the context, the children of this process have `limits`, on every thread."""
    _chosen.append(limits)
    try:
        yield
    finally:
        _chosen.pop()


def time_is_chosen() -> bool:
    """Whether the user set the time that a child may take."""
    return _chosen[-1].seconds is not None


def limits_for(size: int) -> Limits:
    """The limits of a child that works on a file of `size` bytes: the chosen ones, or those of the file and machine."""
    chosen = _chosen[-1]
    return Limits(
        chosen.memory or min(int(SHARE * available()), LEAST + MULTIPLE * size),
        chosen.seconds or SECONDS + size / BYTES_PER_SECOND,
    )


def size_of(path: Path) -> int:
    """The bytes of a file, or of the files in a folder; 0 where they cannot be read."""
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        beside = path.with_name(path.name + ".data")
        return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
    except OSError:
        return 0


def available() -> int:
    """The bytes of memory of this machine, or of the container that this process runs in (cgroup version 1 or 2)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62
    for path in _limit_files():
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def _limit_files() -> Iterator[Path]:
    """The files with the limits of the groups that this process belongs to, and of the groups around them."""
    try:
        lines = GROUPS[0].read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        kinds, _, place = rest.partition(":")
        root, name = GROUPS[1], "memory.max"
        if number != "0":
            root, name = root / "memory", "memory.limit_in_bytes"
            if "memory" not in kinds.split(","):
                continue
        inside = [part for part in place.split("/") if part not in ("", "..")]
        yield from (root.joinpath(*inside[:count], name) for count in range(len(inside) + 1))


class Process(Protocol):
    """A child process, as `subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...


class Watcher:
    """Within the context, `process` is ended at its limits; `reason` then says why, otherwise it is ""."""

    def __init__(self, process: Process, limits: Limits) -> None:
        self.reason = ""
        self._process = process
        self._limits = limits
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        memory, seconds = self._limits.memory, self._limits.seconds
        ends, looks, others = time.monotonic() + (seconds or math.inf), 0, 0
        while not self._done.wait(_INTERVAL):
            if looks % _EVERY == 0:
                others = sum(resident(pid) for pid in descendants(self._process.pid))
            looks += 1
            if memory is not None and resident(self._process.pid) + others > memory:
                self._stop(f"more than {_text(memory)} of memory, its limit (see --memory-limit)")
            elif time.monotonic() > ends:
                self._stop(f"no answer after {seconds:.0f} s, its limit (see --timeout)")

    def _stop(self, reason: str) -> None:
        self.reason = f"{reason}; its process was stopped"
        self._process.kill()
        self._done.set()


@contextmanager
def own_memory_limited(memory: int, stage: Callable[[], str]) -> Iterator[None]:
    """Within the context, this process ends with exit code 8 and the name of its `stage` above `memory` bytes.

    For a command line only: nothing of the caller's is run any more. What one call into a library takes at once may
    pass the limit before it is seen.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            if resident(os.getpid()) > memory:
                end(8, f"{stage()}: more than {_text(memory)} of memory, its limit\n  see --memory-limit")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def resident(pid: int) -> int:
    """The bytes of a process that are in memory; 0 where the system has no /proc or the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _text(size: int) -> str:
    return f"{size / (1 << 30):.3g} GB" if size >= 1 << 30 else f"{size / (1 << 20):.3g} MB"
