"""`fleet`: exports or verifies many models on a Dask cluster, and writes one report over all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TypedDict, Unpack

from converter.core.errors import OutputError, UsageError
from converter.core.foreign import Given, JsonObject
from converter.fleets import state
from converter.fleets.cluster import Cluster, allowed_failures, connected, refuse_other_libraries
from converter.fleets.keys import key_of, versions
from converter.fleets.listing import read_list, to_verify
from converter.fleets.pages import write_pages
from converter.fleets.rows import row_not_run
from converter.fleets.running import Prepared, Runner
from converter.fleets.tasks import FleetOptions, FleetReport, FleetRow, Task
from converter.fleets.transfer import seen, shared_by_all

Event = JsonObject
Events = Callable[[Event], None]
"""Called with each event of a fleet: its "event", its "time" in seconds since 1970, and what it is about"""


class FleetKeywords(TypedDict, total=False):
    """The keywords of `converter.fleet`: the fields of `FleetOptions`."""

    output: str | PathLike[str] | None
    jobs: int
    scheduler: str | None
    tls: dict[str, Path]
    force: bool
    retries: int
    timeout: float
    memory: int | None
    transfer: str


def fleet(
    models: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    verify: bool = False,
    runtimes: Sequence[str] = (),
    events: Events | None = None,
    **keywords: Unpack[FleetKeywords],
) -> FleetReport:
    """Export and prove many models, or with `verify` verify many artifact directories, and report on all of them.

    `models` are TOML files, model files, patterns of these, or other sources as `converter.export` takes them. What an
    earlier run proved from the same bytes with the same options and versions is not run again, unless `force` is set. A
    model that fails is a row of the report; the others go on. The report is also written to the target directory
    `output`, as fleet.json, fleet.html and fleet.xml.

    The embedded cluster starts a process: a script that calls this needs `if __name__ == "__main__":`.

    Raises UsageError or InputError for a list that is not valid, UnavailableError without the extra `fleet`, for a
    scheduler that does not answer and for workers of another version, all before any work starts, and OutputError if
    another fleet has the target directory or it cannot be written.
    """
    begun = time.monotonic()
    texts = [models] if isinstance(models, str | PathLike) else list(models)
    names = [fspath(each) for each in texts]
    tasks, own = (to_verify(names, runtimes), None) if verify else read_list(names)
    options = _options(keywords, own)
    send = _stamped(events)
    with _locked(options.output):
        prepared, rows = _prepared(tasks, options)
        send({"event": "fleet-started", "models": len(tasks), "unchanged": len(rows), "output": str(options.output)})
        for row in rows.values():
            send(_ended(row))
        dashboard = ""
        warnings: tuple[str, ...] = ()
        if prepared:
            with connected(options) as cluster:
                dashboard = cluster.dashboard
                warnings = _warnings(cluster, options)
                if not verify:
                    refuse_other_libraries(cluster)
                shared = verify or _shared(cluster, options)
                send({"event": "cluster", "dashboard": dashboard, "threads": cluster.threads, "shared": shared})
                runner = Runner(cluster, options, shared, send, {} if verify else versions())
                for row in runner.run(prepared):
                    rows[row.name] = row
                    for stage, seconds in row.timings.items():
                        send({"event": "stage", "model": row.name, "stage": stage, "seconds": seconds})
                    send(_ended(row))
        ordered = tuple(rows[task.name] for task in tasks)
        report = FleetReport(ordered, str(options.output), time.monotonic() - begun, dashboard, warnings)
        write_pages(report, options.output)
    send({"event": "fleet-ended", "exit_code": report.exit_code, "seconds": report.seconds, "summary": report.summary})
    return report


def _options(keywords: FleetKeywords, own: Path | None) -> FleetOptions:
    """The checked options; the target is the one given, else that of the list, else artifacts. Raises UsageError."""
    for name in keywords:
        if name not in FleetKeywords.__annotations__:
            raise UsageError(f"fleet: unknown keyword {name!r}\nknown are {', '.join(FleetKeywords.__annotations__)}")
    output = keywords.get("output") or own or FleetOptions.output
    given: Given = {name: value for name, value in keywords.items() if name != "output"}
    result = replace(FleetOptions(), output=Path(output), **given)
    if result.jobs < 1 or result.retries < 0:
        raise UsageError("fleet: --jobs must be at least 1, --retries at least 0")
    if not result.timeout > 0 or (result.memory is not None and result.memory < 1):
        raise UsageError("fleet: --timeout and --memory must be positive")
    if result.tls and set(result.tls) != {"ca", "cert", "key"}:
        raise UsageError("fleet: TLS needs three files: --tls-ca, --tls-cert and --tls-key")
    if result.transfer not in ("auto", "shared", "stream"):
        raise UsageError(f"fleet: --transfer {result.transfer}: expected auto, shared or stream")
    return result


def _prepared(tasks: Sequence[Task], options: FleetOptions) -> tuple[list[Prepared], dict[str, FleetRow]]:
    """The tasks to run, and the rows of those that are proven already or cannot be started."""
    prepared, rows, own = [], {}, versions()
    for task in tasks:
        path = state.state_path(options.output, task.kind, task.name)
        known = state.read_state(path)
        try:
            key, problem = "" if task.problem else key_of(task, own), task.problem
        except OSError as error:
            key, problem = "", f"{error.filename or task.source}: {error.strerror or error}"
        if problem:
            rows[task.name] = row_not_run(task, "", "failed", {"exit_code": 3, "message": problem}, {})
            continue
        directory = Path(task.source) if task.kind == "verify" else options.output / task.name
        directory = directory if directory.is_dir() else directory.parent if task.kind == "verify" else directory
        done = None if options.force else state.done_before(known, key, directory)
        if done is None:
            prepared.append(Prepared(task, key, path.resolve(), known))
        else:
            rows[task.name] = row_not_run(task, key, "unchanged", done, known)
    return prepared, rows


def _shared(cluster: Cluster, options: FleetOptions) -> bool:
    """Whether the workers write to the target directory themselves. Raises OutputError."""
    if options.transfer == "stream":
        return False
    try:
        shared = shared_by_all(options.output, lambda path: cluster.ask(seen, path))
    except OSError as error:
        raise OutputError(f"{options.output}: cannot be written: {error.strerror or error}") from error
    if options.transfer == "shared" and not shared:
        raise OutputError(f"{options.output}: not every worker sees this directory\nuse --transfer stream")
    return shared


def _warnings(cluster: Cluster, options: FleetOptions) -> tuple[str, ...]:
    if options.scheduler is None or (count := allowed_failures(cluster)) == 0:
        return ()
    text = f"the scheduler lets a model kill {count + 1} workers before it gives it up"
    return (f"{text}; start it with DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=0",)


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keep other fleets out of the target directory. Raises OutputError."""
    from filelock import FileLock, Timeout

    folder = output / state.FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise OutputError(f"{output}: another fleet is writing it; wait, or give another --output") from error
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error


def _stamped(events: Events | None) -> Events:
    def send(event: Event) -> None:
        if events is not None:
            events({"time": round(time.time(), 3), **event})

    return send


def _ended(row: FleetRow) -> Event:
    facts = {"model": row.name, "status": row.status, "exit_code": row.exit_code, "seconds": round(row.seconds, 3)}
    more = {"memory": row.memory, "message": row.message, "change": row.change, "attempts": row.attempts}
    return {"event": "model-ended", **facts, **more, "worker": row.worker}
