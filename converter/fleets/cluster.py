"""The Dask cluster of a fleet: an embedded one, or one that runs already. Its workers are checked first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from converter.core.errors import UnavailableError, UsageError
from converter.core.text import one_line
from converter.core.version import __version__
from converter.fleets.keys import versions
from converter.fleets.tasks import FleetOptions
from converter.fleets.transfer import read_piece
from converter.fleets.work import Job, Outcome, other_versions, work

DaskClient: TypeAlias = Any
"""distributed.Client"""
DaskScheduler: TypeAlias = Any
"""distributed.Scheduler"""
Future: TypeAlias = Any
"""distributed.Future whose result is an Outcome"""
Answers: TypeAlias = Any
"""What each worker answered, in the order of the workers"""

CONNECT = 15
"""Seconds until a scheduler that does not answer, or has no workers, is given up."""
MEMORY, CORES = "MEMORY", "CORES"
SHARE = 0.9
"""Part of the available memory that models may fill."""
_ALLOWED_FAILURES = "distributed.scheduler.allowed-failures"


@dataclass
class Cluster:
    """A connected cluster. `resources` are the least amounts of those resources that every worker declares.

    `threads` is the number of tasks that run at a time.
    """

    client: DaskClient
    resources: dict[str, float]
    threads: int
    dashboard: str = ""

    def submit(self, job: Job, memory: int) -> Future:
        """Give `job` to a worker that has `memory` bytes left, or all of its memory if that is less."""
        wanted = {MEMORY: min(memory, self.resources.get(MEMORY, 0)), CORES: 1}
        needs = {name: amount for name, amount in wanted.items() if name in self.resources}
        return self.client.submit(_work, job, pure=False, retries=0, resources=needs or None)

    def ask(self, function: Callable[..., object], *arguments: object) -> Answers:
        """What `function` returns on each worker."""
        return list(self.client.run(function, *arguments).values())

    def fetch(self, worker: str) -> Callable[[str, int, int], bytes]:
        """A function that reads part of a file on `worker`."""

        def piece(path: str, offset: int, length: int) -> bytes:
            found: bytes = self.client.run(read_piece, path, offset, length, workers=[worker])[worker]
            return found

        return piece

    def tell(self, worker: str, function: Callable[..., object], *arguments: object) -> None:
        """Run `function` on one worker."""
        self.client.run(function, *arguments, workers=[worker])

    @property
    def alive(self) -> bool:
        """Whether the scheduler answers and has a worker."""
        return self.client.status == "running" and bool(self.client.scheduler_info(n_workers=-1)["workers"])


def _work(job: Job) -> Outcome:
    from distributed import get_worker

    return replace(work(job), worker=get_worker().address)


@contextlib.contextmanager
def connected(options: FleetOptions) -> Iterator[Cluster]:
    """The cluster that `options` ask for. An embedded one ends with the context.

    Raises UnavailableError without `distributed`, for a scheduler that does not answer, that has no workers, or whose
    workers have another Python or cnnexport.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise UnavailableError(f"fleet: {error}\npip install 'cnnexport[fleet]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({_ALLOWED_FAILURES: 0}))
        if options.scheduler is None:
            cluster = stack.enter_context(_embedded(options))
            client = stack.enter_context(distributed.Client(cluster))
        else:
            client = stack.enter_context(_client(options))
        workers = client.scheduler_info(n_workers=-1)["workers"]
        _refuse_other_workers(client, options.scheduler or "the embedded cluster")
        yield Cluster(
            client,
            _resources([each.get("resources") or {} for each in workers.values()]),
            sum(each["nthreads"] for each in workers.values()),
            client.dashboard_link or "",
        )


def _embedded(options: FleetOptions) -> contextlib.AbstractContextManager[object]:
    """One worker process with a thread for each job, which a nanny starts again if it dies."""
    import distributed
    import psutil

    memory = int(psutil.virtual_memory().available * SHARE)
    cluster: contextlib.AbstractContextManager[object] = distributed.LocalCluster(
        n_workers=1, threads_per_worker=options.jobs, processes=True, host="127.0.0.1", memory_limit=None,
        dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL, resources={MEMORY: memory, CORES: options.jobs},
    )  # fmt: skip
    return cluster


def _client(options: FleetOptions) -> DaskClient:
    """A client of the scheduler that runs already. Raises UnavailableError."""
    import distributed

    address = options.scheduler or ""
    if options.tls and not address.startswith("tls://"):
        raise UsageError(f"--scheduler {address}: files for TLS were given\nwrite tls:// instead of tcp://")
    security = None
    if options.tls:
        ca, cert, key = (str(options.tls[name]) for name in ("ca", "cert", "key"))
        security = distributed.Security(
            tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True
        )
    try:
        client = distributed.Client(address, timeout=CONNECT, security=security)
    except (OSError, ValueError, TypeError) as error:
        raise UnavailableError(
            f"--scheduler {address}: no answer: {one_line(error)}\nstart it with: dask scheduler"
        ) from error
    try:
        client.wait_for_workers(1, timeout=CONNECT)
    except TimeoutError as error:
        client.close()
        raise UnavailableError(f"--scheduler {address}: has no workers\nstart one: dask worker {address}") from error
    return client


def _refuse_other_workers(client: DaskClient, where: str) -> None:
    """Raise UnavailableError for the first worker with another Python or cnnexport than this process."""
    found = client.get_versions(packages=["cnnexport"])
    python = _minor(found["client"]["host"]["python"])
    for worker, facts in found["workers"].items():
        own = {"cnnexport": facts["packages"].get("cnnexport") or "(none)", "Python": _minor(facts["host"]["python"])}
        if problem := other_versions({"cnnexport": __version__, "Python": python}, own):
            raise UnavailableError(f"{where}: the worker {worker} has {problem}\ninstall the same version there")


def refuse_other_libraries(cluster: Cluster) -> dict[str, str]:
    """The versions that every worker has. Raises UnavailableError if a worker has another one than this process."""
    own = versions()
    for worker, found in cluster.client.run(versions).items():
        if problem := other_versions(own, found):
            raise UnavailableError(f"the worker {worker} has {problem}\ninstall the same version there")
    return own


def allowed_failures(cluster: Cluster) -> int:
    """How many workers a task may kill before the scheduler gives it up."""
    return int(cluster.client.run_on_scheduler(_allowed_failures))


def _allowed_failures(dask_scheduler: DaskScheduler = None) -> int:  # the name is that of distributed
    return int(dask_scheduler.allowed_failures)


def _resources(declared: Sequence[dict[str, float]]) -> dict[str, float]:
    names = set.intersection(*(set(each) for each in declared)) & {MEMORY, CORES} if declared else set()
    return {name: min(each[name] for each in declared) for name in names}


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
