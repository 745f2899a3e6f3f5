"""A run that is ended leaves no process and no file, whatever it was doing; the previous export stays."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import converter
from converter.core.ending import descendants

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
MODEL = "tiny_nets:two_heads"
RACES = int(os.environ.get("CNNEXPORT_TEST_RACES", "3"))
"""Rounds of exports that race in the slow tests"""

KILLS = int(os.environ.get("CNNEXPORT_TEST_KILLS", "10"))
"""Moments of each kind at which the slow tests kill"""

Start = Callable[..., "subprocess.Popen[bytes]"]


def heed_signals() -> None:
    """In a new process: a shell that starts the tests in the background has it ignore SIGINT, `nohup` SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path: Path, nets: Path) -> Iterator[Start]:
    """Starts an export into `tmp_path`/work/two_heads, with temporary files in `tmp_path`/temporary."""
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    started: list[subprocess.Popen[bytes]] = []
    path = os.pathsep.join([str(nets), *filter(None, sys.path)])

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "converter", MODEL, "-o", "two_heads", *arguments],
            cwd=tmp_path / "work",
            env={**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=heed_signals,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def until(process: subprocess.Popen[bytes], stage: str) -> None:
    """Wait until the export begins or ends a stage."""
    assert process.stderr is not None
    for line in process.stderr:
        if stage.encode() in line:
            return
    raise AssertionError(f"{stage} was never reached")


def gone(pids: list[int]) -> bool:
    """Whether the processes have ended, after as long as the system needs to end them."""
    for _ in range(200):
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in status(pid)]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("SIGTERM", "write tflite"),
        pytest.param("SIGINT", "trace", marks=pytest.mark.slow),
        pytest.param("SIGHUP", "load", marks=pytest.mark.slow),
    ],
)
def test_signals_end_everything(name: str, stage: str, start: Start, tmp_path: Path) -> None:
    process = start()
    until(process, stage)
    children = descendants(process.pid)
    number = getattr(signal, name)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert children
    assert gone(children)
    assert not list((tmp_path / "work").iterdir())
    assert not list((tmp_path / "temporary").iterdir())


HANGING = """
import subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from converter.core.ending import ended_by_signals, removed_at_end
place = Path(sys.argv[1])
place.mkdir()
with ended_by_signals(), removed_at_end(place), ThreadPoolExecutor(1) as pool:
    pool.submit(subprocess.run, [sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(1)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.light
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_process_that_cannot_clean_up_by_itself_is_ended_too(name: str, tmp_path: Path) -> None:
    """The main thread waits for a pool, whose thread waits for a child that never ends."""
    place = tmp_path / "place"
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(place)], stdout=subprocess.PIPE, preexec_fn=heed_signals
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    children = descendants(process.pid)
    process.send_signal(getattr(signal, name))
    assert process.wait(60) == 128 + getattr(signal, name)
    process.stdout.close()
    assert children
    assert gone(children)
    assert not place.exists()


def test_a_killed_parent_leaves_no_process_and_the_next_run_no_file(start: Start, tmp_path: Path) -> None:
    process = start("-f", "onnx")
    until(process, "trace")
    children = descendants(process.pid)
    process.kill()
    process.wait()
    assert children
    assert gone(children)
    assert start("-f", "onnx").wait() == 0
    assert [each.name for each in (tmp_path / "work").iterdir()] == ["two_heads"]
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_exports_that_race(start: Start, tmp_path: Path) -> None:
    """Three at once into one directory, several times: each ends with its code, and what is there is one of them."""
    target = tmp_path / "work" / "two_heads"
    codes: Counter[int] = Counter()
    for count in range(RACES):
        racing = [start("--json", "--quiet", "-f", "onnx", "--seed", str(3 * count + each)) for each in range(3)]
        ended = [process.wait() for process in racing]
        codes.update(ended)
        assert set(ended) <= {0, 7}, [process.stderr.read() for process in racing if process.stderr]
        assert 0 in ended
        assert converter.verify(target, runtimes="onnxruntime").verdict == "pass"
        seed = json.loads((target / "manifest.json").read_text())["seed"]
        assert seed in range(3 * count, 3 * count + 3)
        assert [each.name for each in (tmp_path / "work").iterdir()] == ["two_heads"]
        assert not list((tmp_path / "temporary").iterdir())
    print(f"{RACES} rounds of three: {dict(codes)}")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "child"])
def test_kills_at_random_moments(victim: str, start: Start, tmp_path: Path, exported: Any) -> None:
    """After each kill the directory holds the previous or the new export, which verifies."""
    target = tmp_path / "work" / "two_heads"
    shutil.copytree(exported.directory, target)
    moments = random.Random(7)
    for count in range(KILLS):
        process = start("--quiet", "--seed", str(count), "-f", "onnx,tflite")
        time.sleep(moments.uniform(0.1, 9.0))
        known = descendants(process.pid)
        chosen = process.pid if victim == "parent" else moments.choice(known or [0])
        if chosen and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chosen, signal.SIGKILL)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait() in ((-signal.SIGKILL, 0) if victim == "parent" else (0, 8)), (count, said)
        assert gone(known)
        assert converter.verify(target, runtimes=("onnxruntime", "litert")).verdict == "pass"
    assert start("--quiet", "-f", "onnx,tflite").wait() == 0
    left = {each.name for each in (tmp_path / "work").iterdir()} - {"two_heads.unproven"}
    assert left == {"two_heads"}
    assert not list((tmp_path / "temporary").iterdir())
