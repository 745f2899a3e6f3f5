"""A hundred changed files of every kind that the program reads, more if slow tests are run, and a reader with bugs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(HERE))
    try:
        from run import prepare
    finally:
        sys.path.remove(str(HERE))
    directory = tmp_path_factory.mktemp("fuzzing") / "samples"
    prepare(directory)
    return directory


@pytest.mark.parametrize("count", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_changed_files_end_in_a_documented_way(samples: Path, count: int) -> None:
    command = [sys.executable, HERE / "run.py", "--count", str(count), "--seed", "7", "--samples", samples]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "| .keras |" in done.stdout


def test_the_fuzzer_notices_what_is_not_documented(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader with a bug, one that hangs, one that writes elsewhere and one that leaves a process are findings."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(HERE)!r})
import run
from pathlib import Path
run.SECONDS = 1
directory = Path({str(samples)!r})
def buggy(directory, path): raise KeyError("x")
def hanging(directory, path): time.sleep(60)
def writing(directory, path): (directory / "new.txt").write_text("x")
def forking(directory, path):
    if not os.fork(): time.sleep(60)
for read in (buggy, hanging, writing, forking):
    run.TARGETS["labels"] = run.Target("labels.txt", run.TARGETS["labels"].change, read)
    codes, findings = run.fuzz(directory, 1, 0, ["labels"])
    print(read.__name__, len(findings))
(directory / "new.txt").unlink()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:-1] == ["buggy 1", "hanging 1", "writing 1", "forking 1"], done
