"""Retries, suspects, and a cluster that is lost: the loop over a cluster that is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.fleets.estimate import EXPORT, memory_of, seconds_of
from converter.fleets.running import Prepared, Runner
from converter.fleets.tasks import FleetOptions, FleetRow, Task
from converter.fleets.work import Job, Outcome


class KilledWorker(Exception):
    """As distributed names it."""


@dataclass
class Done:
    """A future that is done."""

    value: Outcome | Exception
    status: str = "finished"

    def done(self) -> bool:
        return self.status != "pending"

    def result(self, timeout: float) -> Outcome:
        assert isinstance(self.value, Outcome)
        return self.value

    def exception(self, timeout: float) -> Exception:
        assert isinstance(self.value, Exception)
        return self.value


@dataclass
class Cluster:
    """Answers each job with what `answer` says; remembers what ran beside it."""

    answer: Callable[[Job, int], Done]
    threads: int = 2
    alive: bool = True
    resources: dict[str, float] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)

    def submit(self, job: Job, memory: int) -> Done:
        self.submitted.append(job.name)
        return self.answer(job, self.submitted.count(job.name))


def rows(cluster: Cluster, names: str, tmp_path: Path, **given: Any) -> dict[str, FleetRow]:
    runner: Any = Runner(cluster, FleetOptions(tmp_path, **given), True, lambda event: None, {}, lost=0.2)  # type: ignore[arg-type]
    tasks = [Prepared(Task(name, "export", name), name, tmp_path / f"{name}.json", {}) for name in names]
    return {row.name: row for row in runner.run(tasks)}


def test_only_exit_code_8_is_tried_again(tmp_path: Path) -> None:
    codes = {"a": 0, "b": 1, "c": 4, "d": 6, "e": 8, "f": 70}
    cluster = Cluster(lambda job, attempt: Done(Outcome(codes[job.name])))
    found = rows(cluster, "abcdef", tmp_path)
    assert {name: row.exit_code for name, row in found.items()} == codes
    assert {name: row.attempts for name, row in found.items()} == {**dict.fromkeys("abcdf", 1), "e": 2}
    assert rows(cluster, "e", tmp_path, retries=0)["e"].attempts == 1


def test_a_second_attempt_may_succeed(tmp_path: Path) -> None:
    cluster = Cluster(lambda job, attempt: Done(Outcome(8 if attempt == 1 else 0)))
    assert rows(cluster, "a", tmp_path)["a"].status == "proven"


def test_a_model_that_kills_its_worker_twice_is_a_row_and_others_are_not_blamed(tmp_path: Path) -> None:
    def answer(job: Job, attempt: int) -> Done:
        if job.name == "x" or (job.name in "ab" and attempt == 1):  # a and b were beside x
            return Done(KilledWorker(), "error")
        return Done(Outcome(0))

    cluster = Cluster(answer)
    found = rows(cluster, "axbcd", tmp_path)
    assert [name for name, row in found.items() if row.exit_code] == ["x"]
    assert found["x"].exit_code == 8
    assert "the worker that ran it died" in found["x"].message
    assert cluster.submitted[:5] == ["a", "x", "b", "c", "d"]
    assert sorted(cluster.submitted[5:]) == ["a", "b", "x"]
    assert found["a"].attempts == 2


def test_a_failure_of_its_own_and_the_death_of_a_worker_are_counted_apart(tmp_path: Path) -> None:
    def answer(job: Job, attempt: int) -> Done:
        killed = Done(KilledWorker(), "error")
        return [killed, Done(Outcome(8, "its own")), Done(Outcome(8, "its own"))][attempt - 1]

    row = rows(Cluster(answer), "a", tmp_path)["a"]
    assert (row.attempts, row.message) == (3, "its own")


def test_a_cluster_that_is_lost_leaves_rows(tmp_path: Path) -> None:
    cluster = Cluster(lambda job, attempt: Done(Outcome(0), "pending"), alive=False)
    found = rows(cluster, "abcdefgh", tmp_path)
    assert {row.exit_code for row in found.values()} == {8}
    assert "run again to continue" in found["a"].message
    assert len(found) == 8


def test_what_a_worker_raises_is_a_row(tmp_path: Path) -> None:
    cluster = Cluster(lambda job, attempt: Done(ValueError("odd") if job.name == "a" else OSError("full"), "error"))
    found = rows(cluster, "ab", tmp_path)
    assert {name: row.exit_code for name, row in found.items()} == {"a": 70, "b": 7}


def test_estimates_and_measurements(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(bytes(1000))
    task = Task("m", "export", str(path))
    assert memory_of(task, {}) == EXPORT + 6000
    assert memory_of(task, {"memory": 1000}) == 1250
    assert seconds_of({}) > seconds_of({"seconds": 9.0}) > seconds_of({"seconds": 1})
