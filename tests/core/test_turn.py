"""Turns: heavy work is limited to a few, a measurement waits until nobody works, and for nobody too long."""

from __future__ import annotations

import errno
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from converter.core.clock import Clock
from converter.core.turn import SLOTS, Turn, turns

Context = Callable[[], AbstractContextManager[None]]


class Worker:
    """A thread that enters a context and leaves it when it is told to."""

    def __init__(self, context: Context, entered: queue.Queue[str], name: str) -> None:
        self.leave = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(context, entered, name), daemon=True)
        self.thread.start()

    def run(self, context: Context, entered: queue.Queue[str], name: str) -> None:
        with context():
            entered.put(name)
            self.leave.wait()

    def end(self) -> None:
        self.leave.set()
        self.thread.join(10)


@pytest.fixture
def turn() -> Iterator[Turn]:
    with turns() as found:
        yield found


def test_a_measurement_waits_for_those_who_work_and_they_for_it(turn: Turn) -> None:
    entered: queue.Queue[str] = queue.Queue()
    working = Worker(turn.working, entered, "working")
    assert entered.get(timeout=10) == "working"
    alone = Worker(lambda: turn.alone(60), entered, "alone")
    with pytest.raises(queue.Empty):
        entered.get(timeout=0.3)
    working.end()
    assert entered.get(timeout=10) == "alone"
    later = Worker(turn.working, entered, "later")
    with pytest.raises(queue.Empty):
        entered.get(timeout=0.3)
    alone.end()
    assert entered.get(timeout=10) == "later"
    later.end()


def test_only_a_few_do_heavy_work_and_anyone_light_work(turn: Turn) -> None:
    entered: queue.Queue[str] = queue.Queue()
    heavy = [Worker(lambda: turn.working(heavy=True), entered, str(number)) for number in range(SLOTS + 1)]
    first = {entered.get(timeout=10) for _ in range(SLOTS)}
    with pytest.raises(queue.Empty):
        entered.get(timeout=0.3)
    light = Worker(turn.working, entered, "light")
    assert entered.get(timeout=10) == "light"
    heavy[int(min(first))].end()
    assert entered.get(timeout=10) not in first
    for each in (*heavy, light):
        each.end()


def test_one_that_hangs_is_not_waited_for_any_longer(turn: Turn) -> None:
    with turn.working(), turn.alone(0.1):
        pass
    with turn.working(heavy=True), turn.working(heavy=True), turn.working(heavy=True, patience=0.1):
        pass


def test_without_a_directory_nobody_waits() -> None:
    turn = Turn(None)
    with turn.alone(60), turn.working(heavy=True), turn.working(heavy=True), turn.working(heavy=True), turn.alone(60):
        pass


def test_a_file_system_without_locks_has_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("converter.core.turn.fcntl.flock", refused)
    with turns() as found, found.working(heavy=True), found.alone(60):
        assert found.directory is None


def test_processes_share_a_directory(turn: Turn) -> None:
    code = (
        "import pathlib, sys\nfrom converter.core.turn import Turn\n"
        "with Turn(pathlib.Path(sys.argv[1])).working():\n    print('working', flush=True)\n    sys.stdin.read()\n"
    )
    entered: queue.Queue[str] = queue.Queue()
    command = [sys.executable, "-c", code, str(turn.directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "working\n"
        alone = Worker(lambda: turn.alone(60), entered, "alone")
        with pytest.raises(queue.Empty):
            entered.get(timeout=0.3)
        other.communicate()
    assert entered.get(timeout=10) == "alone"
    alone.end()


def test_a_part_of_a_stage_does_not_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr("converter.core.clock.time.perf_counter", lambda: next(times))
    said: list[tuple[str, float | None]] = []
    clock = Clock(lambda stage, seconds: said.append((stage, seconds)))
    with clock("outer"):
        with clock("inner"):
            pass
        with clock("inner"):
            pass
    with clock("after"):
        pass
    assert clock.timings == {"inner": 20, "outer": 30, "after": 10}
    assert said[-1] == ("after", 10)
