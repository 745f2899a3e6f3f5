"""`--log FILE`: one line of JSON for each event, for any collector of logs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from converter.core.clock import Progress
from converter.core.errors import OutputError
from converter.core.foreign import JsonObject
from converter.core.text import one_line


class EventLog:
    """Appends events to a file, each with its "event" and its "time" in seconds since 1970; nothing without a path.

    Raises OutputError at entry if the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.stream: IO[str] | None = None

    def __enter__(self) -> EventLog:
        if self.path is not None:
            try:
                self.stream = self.path.open("a", encoding="ascii")
            except OSError as error:
                raise OutputError(f"--log {self.path}: cannot be written: {error.strerror or error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.stream is not None:
            try:
                if error is not None:
                    self.write({"event": "error", "kind": type(error).__name__, "message": one_line(error, 500)})
            finally:
                self.stream.close()

    def write(self, event: JsonObject) -> None:
        """Append `event` and make it visible to readers. Raises OutputError."""
        if self.stream is None:
            return
        try:
            self.stream.write(json.dumps({"time": round(time.time(), 3), **event}, sort_keys=True) + "\n")
            self.stream.flush()
        except OSError as error:
            raise OutputError(f"--log {self.path}: cannot be written: {error.strerror or error}") from error

    def verdict(self, model: str, verdict: str, exit_code: int) -> None:
        """Append how `model` ended."""
        self.write({"event": "model-ended", "model": model, "verdict": verdict, "exit_code": exit_code})

    def progress(self, model: str, then: Progress) -> Progress:
        """`then`, which also appends each stage of `model` that ends, with its seconds."""

        def report(stage: str, seconds: float | None) -> None:
            if seconds is not None:
                self.write({"event": "stage", "model": model, "stage": stage, "seconds": round(seconds, 4)})
            then(stage, seconds)

        return report
