"""What a fleet consists of: tasks, what became of each, and the report over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from converter.core.errors import ChildError, CnnExportError, ConversionError, InconclusiveError, ParityError
from converter.core.foreign import Json

Kind = Literal["export", "verify"]
Status = Literal["proven", "unchanged", "failed"]
RETRIED = 8
"""The exit code that is tried again: a process crashed, ran out of memory or time, or its worker died."""


@dataclass(frozen=True)
class Task:
    """One model of a fleet: what `cnnexport export` or `cnnexport verify` is called with.

    `name` is unique and, for an export, the path of its directory below the target. `options` are pairs of a long
    option and its value as text, None for a flag. `problem` is set for a source that cannot be started.
    """

    name: str
    kind: Kind
    source: str
    options: tuple[tuple[str, str | None], ...] = ()
    problem: str = ""

    @property
    def arguments(self) -> list[str]:
        """The command line without its destination."""
        words = [self.kind, self.source]
        for option, value in self.options:
            words += [option] if value is None else [option, value]
        return words


@dataclass(frozen=True)
class FleetOptions:
    """How a fleet is run. `output` is the target directory.

    `jobs` models at a time run on the embedded cluster, or as many as the workers of `scheduler` have threads. `tls`
    has the files "ca", "cert" and "key". A model that takes longer than `timeout` seconds, or more than `memory` bytes,
    is stopped: exit code 8, which is tried again `retries` times. With `transfer` "auto" each worker is asked whether
    it sees the target directory; with "stream" every artifact is sent.
    """

    output: Path = Path("artifacts")
    jobs: int = 2
    scheduler: str | None = None
    tls: Mapping[str, Path] = field(default_factory=dict)
    force: bool = False
    retries: int = 1
    timeout: float = 3600.0
    memory: int | None = None
    transfer: Literal["auto", "shared", "stream"] = "auto"


@dataclass(frozen=True)
class FleetRow:
    """What became of one task. `exit_code` is that of `cnnexport`; `message` says why it is not 0.

    `comparisons` are the rows of its report with the worst error, `artifacts` its files; `memory` is the largest
    resident size of its processes together, in bytes. `change` compares with the last run of this fleet.
    """

    name: str
    source: str
    kind: Kind
    key: str
    status: Status
    exit_code: int
    message: str = ""
    directory: str = ""
    worker: str = ""
    attempts: int = 0
    seconds: float = 0.0
    memory: int = 0
    comparisons: tuple[Mapping[str, Json], ...] = ()
    artifacts: tuple[Mapping[str, Json], ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    change: str = ""


@dataclass(frozen=True)
class FleetReport:
    """All rows of a fleet, in the order of its list; `seconds` is the time of this run."""

    rows: tuple[FleetRow, ...]
    output: str
    seconds: float = 0.0
    dashboard: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[FleetRow, ...]:
        """The rows whose exit code is not 0."""
        return tuple(row for row in self.rows if row.exit_code)

    @property
    def exit_code(self) -> int:
        """0 if there are rows and none failed, 9 if there are none, else 1."""
        return (1 if self.failed else 0) if self.rows else 9

    @property
    def summary(self) -> str:
        """One line with the counts."""
        counts = [sum(row.status == status for row in self.rows) for status in ("proven", "unchanged", "failed")]
        return f"{len(self.rows)} models: {counts[0]} proven, {counts[1]} unchanged, {counts[2]} failed"

    def raise_for_failures(self) -> None:
        """Return if every model is proven. Otherwise raise the error of the first failed row, with the count."""
        if not self.rows:
            raise InconclusiveError("the fleet has no models")
        if self.failed:
            first = self.failed[0]
            kinds: dict[int, type[CnnExportError]] = {6: ConversionError, 8: ChildError, 9: InconclusiveError}
            raise kinds.get(first.exit_code, ParityError)(f"{self.summary}\n{first.name}: {first.message}")
