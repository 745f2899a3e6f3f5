"""The part of a worker: limits of a child, what it said, what earlier runs left, keys. Children are stand-ins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from converter.fleets import state, work
from converter.fleets.keys import key_of, versions
from converter.fleets.tasks import Task
from converter.fleets.transfer import receive, shared_by_all
from converter.fleets.work import Job, Outcome, run_child


def job(tmp_path: Path, **given: Any) -> Job:
    facts: dict[str, Any] = {
        "name": "m", "arguments": ("export", "m"), "key": "k", "target": str(tmp_path / "m"), "state": "",
        "timeout": 30.0, "memory": None,
    }  # fmt: skip
    return Job(**{**facts, **given})


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(work, "PROGRAM", ("-c", code))


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 8, "its process was killed (SIGKILL)"),
        ("import os; os.abort()", 8, "its process was killed (SIGABRT)"),
        ("import sys; print('cnnexport: conv1: refused\\n  do this', file=sys.stderr); sys.exit(6)", 6,
         "conv1: refused do this"),
        ("import sys; print('not JSON'); sys.exit(3)", 3, ""),
        ("print('{\"exit_code\": 0}')", 0, ""),
    ],
)  # fmt: skip
def test_how_a_child_ends(
    code: str, exit_code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, code)
    outcome = run_child((), job(tmp_path), tmp_path)
    assert (outcome.exit_code, outcome.message) == (exit_code, words)


def test_a_child_that_hangs_runs_into_its_limit_with_its_own_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    child(monkeypatch, f"{inner}open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()")
    outcome = run_child((), job(tmp_path, timeout=3.0), tmp_path)
    assert outcome.exit_code == 8
    assert "no answer after 3 s" in outcome.message
    pid = int((tmp_path / "pid").read_text())
    assert gone(pid)


def gone(pid: int) -> bool:
    """Whether the process `pid` ends; one that waits for its parent counts as ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_child_that_allocates_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "import time\nkept = []\nwhile True:\n    kept.append(bytearray(8 << 20)); time.sleep(0.01)")
    outcome = run_child((), job(tmp_path, memory=200 << 20), tmp_path)
    assert outcome.exit_code == 8
    assert "more than 200 MB of memory" in outcome.message
    assert outcome.memory > 200 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_the_guard_ends_with_its_parent(tmp_path: Path) -> None:
    """A worker that is killed leaves no export behind that would hold the lock of its directory."""
    ready = tmp_path / "ready"
    sleeping = f"import pathlib, os, time; pathlib.Path({str(ready)!r}).write_text(str(os.getpid())); time.sleep(600)"
    guarded = (
        f"from converter.fleets.guard import end_with_parent; import os; end_with_parent(os.getppid()); {sleeping}"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {guarded!r}])"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        while not (ready.exists() and ready.read_text()):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert gone(int(ready.read_text()))
    finally:
        parent.kill()


def test_a_worker_with_other_versions_refuses(tmp_path: Path) -> None:
    outcome = work.work(job(tmp_path, versions={**versions(), "cnnexport": "9.9"}))
    assert outcome.exit_code == 5
    assert "instead of 9.9" in outcome.message
    assert work.other_versions({"keras": "3"}, {}) == "keras (none) instead of 3"


def test_keys_follow_bytes_options_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(b"one")
    task = Task("m", "export", str(path))
    own = {"cnnexport": "1"}
    first = key_of(task, own)
    assert first == key_of(Task("other name", "export", str(path)), own)
    assert first != key_of(task, {"cnnexport": "2"})
    assert first != key_of(Task("m", "export", str(path), (("--opset", "15"),)), own)
    path.write_bytes(b"two")
    assert first != key_of(task, own)
    weights = tmp_path / "w.h5"
    weights.write_bytes(b"1")
    given = Task("m", "export", "resnet18", (("--weights", str(weights)),))
    before = key_of(given, own)
    weights.write_bytes(b"2")
    assert before != key_of(given, own)
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"1")
    given = Task("m", "export", "resnet18", (("--calibration", str(images)),))
    before = key_of(given, own)
    (images / "a.png").write_bytes(b"2")
    assert before != key_of(given, own)
    assert key_of(Task("m", "export", "resnet18", (("--calibration", "digits"),)), own)
    source = tmp_path / "nets.py"
    source.write_text("a = 1")
    built = [key_of(Task("m", "export", f"{source}:{name}"), own) for name in ("f", "g")]
    source.write_text("a = 2")
    assert len({*built, key_of(Task("m", "export", f"{source}:f"), own)}) == 3


def exported_by_hand(directory: Path, value: bytes) -> None:
    """An artifact directory with one file, as `read_manifest` accepts it."""
    from converter.bundle.manifest import write_manifest
    from converter.core.data import Artifact, TensorSpec

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(value)
    specs = (TensorSpec("x", (None, 4)),), (TensorSpec("y", (None, 2)),)
    artifact = Artifact("onnx", "model.onnx", "float32", *specs, {"Relu": 1}, len(value), 0.1)
    facts = {"model": "m", "source": {}, "artifacts": [artifact], "inputs": specs[0], "outputs": specs[1]}
    write_manifest(directory, facts)
    (directory / "report.json").write_text(json.dumps({"exit_code": 0, "verdict": "pass", "rows": []}))


def test_what_was_done_is_known_while_it_is_intact(tmp_path: Path) -> None:
    path, directory = state.state_path(tmp_path, "export", "a/b"), tmp_path / "a" / "b"
    assert state.done_before(state.read_state(path), "k", directory) is None
    state.started(path, "k", directory)
    assert state.done_before(state.read_state(path), "k", directory) is None
    exported_by_hand(directory, b"1")
    assert state.done_before(state.read_state(path), "k", directory) is not None  # killed after the commit
    assert state.done_before(state.read_state(path), "other", directory) is None
    work.write_done(path, "k", Outcome(0, memory=7, summary={"exit_code": 0}), directory)
    assert state.done_before(state.read_state(path), "k", directory) == {"exit_code": 0}
    state.started(path, "k", directory)
    assert state.read_state(path)["memory"] == 7
    assert state.done_before(state.read_state(path), "k", directory) is None  # killed before the commit
    work.write_done(path, "k", Outcome(0, summary={"exit_code": 0}), directory)
    (directory / "model.onnx").write_bytes(b"2")
    assert state.done_before(state.read_state(path), "k", directory) is None  # damaged since
    work.write_done(path, "k", Outcome(6, summary={"exit_code": 6}), directory)
    exported_by_hand(directory, b"1")
    assert state.done_before(state.read_state(path), "k", directory) is None  # failed then
    path.write_text("{")
    assert state.read_state(path) == {}


def test_an_attempt_whose_worker_died_after_the_commit_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, "raise SystemExit(70)")
    path, directory = state.state_path(tmp_path, "export", "m"), tmp_path / "m"
    state.started(path, "k", directory)
    exported_by_hand(directory, b"1")
    assert work.work(job(tmp_path, state=str(path), again=True)).exit_code == 0
    assert state.read_state(path)["status"] == state.DONE
    assert work.work(job(tmp_path, state=str(path))).exit_code == 70


def sent(directory: Path) -> Outcome:
    from converter.core.files import files_under, record_of

    records = [(name, record_of(directory / name)) for name in files_under(directory, directory)]
    return Outcome(0, root=str(directory), files=tuple((name, each.size, each.sha256) for name, each in records))


def piece(path: str, offset: int, length: int) -> bytes:
    from converter.fleets.transfer import read_piece

    return read_piece(path, offset, length)


def test_artifacts_are_sent_in_pieces_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.fleets.transfer.PIECE", 1000)
    exported_by_hand(tmp_path / "there", os.urandom(4321))
    outcome = sent(tmp_path / "there")
    lengths = []

    def counted(path: str, offset: int, length: int) -> bytes:
        lengths.append(length)
        return piece(path, offset, length)

    assert receive(outcome, tmp_path / "here", counted) == tmp_path / "here"
    assert (tmp_path / "here/model.onnx").read_bytes() == (tmp_path / "there/model.onnx").read_bytes()
    assert max(lengths) == 1000

    def damaged(path: str, offset: int, length: int) -> bytes:
        return bytes(len(piece(path, offset, length)))

    def short(path: str, offset: int, length: int) -> bytes:
        return b"" if offset else piece(path, offset, length)

    from converter.core.errors import InputError

    for fetch in (damaged, short):
        with pytest.raises(InputError, match="damaged on the way"):
            receive(outcome, tmp_path / "other", fetch)
        assert not (tmp_path / "other").exists()
    outside = Outcome(0, root="/", files=(("../x", 1, "0"),))
    with pytest.raises(InputError, match="outside of the directory"):
        receive(outside, tmp_path / "other", piece)


def test_whether_the_target_is_shared(tmp_path: Path) -> None:
    from converter.fleets.transfer import seen

    assert shared_by_all(tmp_path, lambda path: [seen(path), seen(path)])
    assert not shared_by_all(tmp_path, lambda path: [seen(path), ""])
    assert not shared_by_all(tmp_path, lambda path: [])
    assert list(tmp_path.iterdir()) == []
