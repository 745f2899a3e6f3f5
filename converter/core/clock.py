"""Measures how long each stage takes and reports it to a callback. Prints nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float | None], None]
"""Called with the name of a stage and None when the stage starts, and with its duration in seconds when it ends."""


LONG = 30.0
"""Seconds from which a forecast is worth a line."""


class Clock:
    """Measures the stages and reports them to `progress`."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or (lambda stage, seconds: None)
        self.timings: dict[str, float] = {}
        self._inner = threading.local()

    def forecast(self, seconds: float) -> None:
        """Report how long the proof will take, if that is long."""
        if seconds > LONG:
            self.progress("of inference to come, about; --budget SECONDS or fewer --samples limit it", seconds)

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` that a part of `stage` took beside others."""
        self.timings[stage] = self.timings.get(stage, 0.0) + seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """A stage, whose time does not count for the stage of the same thread that it is a part of."""
        self.progress(stage, None)
        outer, self._inner.seconds = getattr(self._inner, "seconds", 0.0), 0.0
        started = time.perf_counter()
        yield
        whole = time.perf_counter() - started
        self.add(stage, whole - self._inner.seconds)
        self._inner.seconds = outer + whole
        self.progress(stage, self.timings[stage])
