"""The size and the hash of each written file, computed on a thread as soon as the file is there."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from converter.bundle.manifest import records_of
from converter.core.data import Artifact
from converter.core.errors import InputError
from converter.core.files import FileRecord
from converter.core.turn import Turn


class Records:
    """The records of the files of artifacts in `directory`; they are not computed while a latency is measured."""

    def __init__(self, directory: Path, turn: Turn) -> None:
        self.directory, self.turn = directory, turn
        self._pool = ThreadPoolExecutor(1)
        self._begun: dict[str, Future[dict[str, FileRecord]]] = {}

    def begin(self, artifact: Artifact) -> None:
        """Read the files of `artifact`, which does not change any more, if they were not begun before."""
        if artifact.path not in self._begun:
            self._begun[artifact.path] = self._pool.submit(self._of, artifact)

    def finish(self) -> dict[str, FileRecord]:
        """The records by name; none if a file could not be read, which is reported where the manifest is written."""
        try:
            return {name: record for each in self._begun.values() for name, record in each.result().items()}
        except (InputError, OSError):
            return {}

    def close(self) -> None:
        """Wait for the file that is being read, and read no other."""
        self._pool.shutdown(cancel_futures=True)

    def _of(self, artifact: Artifact) -> dict[str, FileRecord]:
        with self.turn.working():
            return records_of(self.directory, (artifact,))
