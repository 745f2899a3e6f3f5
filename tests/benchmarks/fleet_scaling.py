"""How many workers a fleet can keep busy: the real client and a real Dask scheduler, with workers that only wait.

    python tests/benchmarks/fleet_scaling.py [--tasks 10 100 1000] [--seconds 15] [--rounds 3] [--size 0]

A model takes `--seconds` on a worker: what `cnnexport NAME` takes, as the stages of a report say. Everything else is
real: the runner of `converter.fleets`, the scheduler, the messages, and with `--size` the bytes of each result that the
client fetches in pieces and checks. "efficiency" is the time that the models alone would take, divided by the time that
the fleet took. Scheduler, client and all workers share one process on this machine, so that what is shown is a lower
limit. More than 100 tasks at a time are threads of 100 workers: a thousand workers in one process would spend its time
on their own heartbeats.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.fleets.cluster import Cluster
from converter.fleets.running import Prepared, Runner
from converter.fleets.tasks import FleetOptions, Task
from converter.fleets.work import Job, Outcome

SUMMARY = {"verdict": "pass", "exit_code": 0, "message": "", "rows": []}


@dataclass
class Waiting(Cluster):
    """A cluster whose tasks wait for `seconds` and leave a file of `size` bytes."""

    seconds: float = 0.0
    size: int = 0

    def submit(self, job: Job, memory: int) -> Any:
        return self.client.submit(_wait, self.seconds, self.size, job.name, pure=False, retries=0)


def _wait(seconds: float, size: int, name: str) -> Outcome:
    from distributed import get_worker

    time.sleep(seconds)
    worker = get_worker().address
    if not size:
        return Outcome(0, "", seconds, 1 << 30, worker, SUMMARY)
    root = Path(tempfile.mkdtemp(prefix="cnnexport-fleet-")) / "export"
    root.mkdir()
    (root / "model.onnx").write_bytes(bytes(size))
    digest = hashlib.sha256(bytes(size)).hexdigest()
    return Outcome(0, "", seconds, 1 << 30, worker, SUMMARY, str(root), (("model.onnx", size, digest),))


def measured(at_once: int, options: argparse.Namespace) -> tuple[int, float, float]:
    """The number of models, the seconds that the fleet took, and those of the client's own processor time."""
    import distributed

    workers = min(at_once, 100)
    with (
        tempfile.TemporaryDirectory() as place,
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=at_once // workers,
            processes=False,
            dashboard_address=None,
            memory_limit=None,
        ) as local,
        distributed.Client(local) as client,
    ):
        client.wait_for_workers(workers, timeout=300)
        count = at_once * options.rounds
        output = Path(place)
        tasks = [
            Prepared(Task(f"model{number}", "export", "resnet18"), "key", output / f".{number}.json", {})
            for number in range(count)
        ]
        cluster = Waiting(client, {}, at_once, seconds=options.seconds, size=options.size)
        shared = not options.size
        runner = Runner(cluster, FleetOptions(output=output), shared, lambda event: None, {})
        begun, used = time.monotonic(), time.process_time()
        rows = list(runner.run(tasks))
        assert [row.exit_code for row in rows] == [0] * count
        return count, time.monotonic() - begun, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=(10, 100, 1000), help="tasks at a time")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3, help="models for each of these tasks")
    parser.add_argument("--size", type=int, default=0, help="bytes of each result that the client fetches")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print("| at a time | models | seconds | efficiency | models a minute | processor seconds a model |")
    print("|--:|--:|--:|--:|--:|--:|", flush=True)
    for at_once in options.tasks:
        count, seconds, used = measured(at_once, options)
        ideal = options.rounds * options.seconds
        print(
            f"| {at_once:,} | {count:,} | {seconds:.1f} | {ideal / seconds:.0%} | {60 * count / seconds:,.0f} "
            f"| {used / count:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
