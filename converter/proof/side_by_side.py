"""Whether artifacts can be run side by side, and the threads that wait for their children."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from converter.core.limits import available, size_of, time_is_chosen
from converter.core.turn import Turn
from converter.proof.children import stop

AT_ONCE, MEMORY = 3, 12
"""Artifacts that are run at a time, if the machine has this many times the memory of the largest file"""

_INTERVAL = 0.02  # seconds between two looks
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def able(turn: Turn, paths: Sequence[Path]) -> bool:
    """Whether children may run the artifacts `paths` at a time: not where each has a time of its own to wait in."""
    fits = MEMORY * max(map(size_of, paths), default=0) <= available()
    return turn.directory is not None and not time_is_chosen() and fits and (os.cpu_count() or 1) > 1


class Threads:
    """At most `count` threads, each of which may wait for a child."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._identities: set[int] = set()
        self._done: list[Callable[[], bool]] = []
        self._pool = ThreadPoolExecutor(count, initializer=lambda: self._identities.add(threading.get_ident()))

    def submit(self, work: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs) -> Future[_Result]:
        """Do `work` on one of them."""
        future = self._pool.submit(work, *given, **named)
        self._done.append(future.done)
        return future

    def finish(self) -> None:
        """Wait for what goes on, and begin nothing else."""
        self._pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """End what goes on: its children are killed."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        while not all(done() for done in self._done):
            stop(self._identities)
            time.sleep(_INTERVAL)
        self._pool.shutdown()
