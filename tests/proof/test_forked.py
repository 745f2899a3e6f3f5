"""A child that is a copy of its parent: it answers as any other, and keeps nothing of the parent's open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from converter.core import machine
from converter.proof import forked
from converter.proof.diagnosis import children_of

if TYPE_CHECKING:
    from conftest import Exported

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a copy is made on Linux only")

PROGRAM = """
import json, os, pathlib, signal, sys, tempfile, threading
from converter.core import machine
from converter.proof.child import answered

def prepare(runtimes):
    print("prepared", runtimes)
    if os.environ.get("STUCK"):
        threading.Lock().acquire() and threading.Event().wait()

def run(job):
    if job.get("end"):
        print("last words")
        os.kill(os.getpid(), getattr(signal, job["end"]))
    if job.get("sleep"):
        import time
        time.sleep(job["sleep"])
    links = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            links[name] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass
    temporary = tempfile.mkdtemp()
    default = [signal.getsignal(each) == signal.SIG_DFL for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return {"job": job, "links": links, "pid": os.getpid(), "temporary": temporary, "default": default,
            "path": [each for each in sys.path if not each]}

if __name__ == "__main__":
    from converter.proof.child import main
    main(run)
"""
PARENT = """
import json, os, sys
from converter.core import ending, machine
machine.own_process()
from converter.core.errors import CnnExportError
from converter.core.limits import Limits, limited
from converter.proof import children, isolate
children._PATIENCE = 1.0

sys.path[:0] = [sys.argv[1], ""]
kept = open(sys.argv[1] + "/kept", "w")
with ending.ended_by_signals(), limited(Limits(seconds=20.0)), children.waiting_children([("program", "other")]):
    children.begin([("program", "named")], fork=True)
    waiting = children.WAITING["program", "named"][0]
    os.environ.pop("STUCK", None)
    try:
        answer = isolate.call("program", json.loads(sys.argv[2]), "a runtime", runtime="named", timeout=4)
        answer["same"] = answer["pid"] == waiting.process.pid
    except CnnExportError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    answer["left"] = os.path.exists(answer.get("temporary", "/nothing"))
print(json.dumps(answer))
"""


def asked(tmp_path: Path, job: dict[str, Any]) -> dict[str, Any]:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-c", PARENT, str(tmp_path), json.dumps(job)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_a_copy_answers_and_keeps_nothing_open(tmp_path: Path) -> None:
    answer = asked(tmp_path, {"number": 7})
    assert answer["job"] == {"number": 7}
    assert answer["same"]
    files = {
        Path(link).name for name, link in answer["links"].items() if int(name) > 2 and not link.startswith("/proc")
    }
    assert {each.partition(":")[0] for each in files} == {"null", "socket"}  # the way to its parent is a socket
    assert sum(link.startswith("socket") for link in answer["links"].values()) == 1
    assert answer["default"] == [True, True, True]
    assert answer["path"] == []
    assert not answer["left"]


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_copy_that_dies_is_reported_with_its_last_words(tmp_path: Path, signal: str) -> None:
    answer = asked(tmp_path, {"end": signal})
    assert answer["error"] == "ChildError"
    assert signal in answer["message"]
    assert answer["message"].endswith("last words")


def test_a_copy_that_hangs_is_stopped(tmp_path: Path) -> None:
    answer = asked(tmp_path, {"sleep": 600})
    assert answer["error"] == "ChildError"
    assert "no answer after 4 s" in answer["message"]


def test_a_copy_that_does_not_even_begin_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUCK", "1")
    answer = asked(tmp_path, {"number": 7})
    assert answer["job"] == {"number": 7}
    assert not answer["same"]


def test_only_a_process_of_ours_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OWN_PROCESS", False)
    assert not forked.able()
    at_once, later = children_of(["onnx", "saved-model"])
    assert [runtime for _, runtime in at_once] == ["tensorflow"]
    monkeypatch.setattr(machine, "OWN_PROCESS", True)
    assert forked.able()
    at_once, later = children_of(["onnx", "saved-model"])
    assert [runtime for _, runtime in later] == ["tensorflow"]
    assert [runtime for _, runtime in at_once] == ["onnxruntime", "onnxruntime-noopt"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not forked.able()


REPEATED = """
import json, sys
from pathlib import Path
from converter.core import machine
machine.own_process()
from converter.bundle.manifest import read_manifest
from converter.proof import children, isolate
from converter.proof.protocol import Subject
from converter.tracing.context import quiet_tensorflow, when_imported

directory = Path(sys.argv[1])
manifest = read_manifest(directory)
artifact = next(each for each in manifest.artifacts if each.format == "saved-model")
subject = Subject(directory, artifact, manifest.interface, "tensorflow", "cpu")
kinds, found = [], []
with children.waiting_children([]):
    with when_imported(lambda fresh: children.begin([(children.RUN_CHILD, "tensorflow")], fork=fresh)):
        quiet_tensorflow()
    for _ in range(2):  # in the copy, and in a new process
        waiting = children.WAITING.get((children.RUN_CHILD, "tensorflow"))
        kinds.append(type(waiting[0].process).__name__ if waiting else "new")
        found.append(isolate.run_artifact(subject, (1, 3)).read())
same = all((found[0].by_batch[size][name] == array).all()
           for size, arrays in found[1].by_batch.items() for name, array in arrays.items())
print(json.dumps([kinds, same, sorted(found[0].by_batch)]))
"""


def test_a_copy_runs_a_saved_model_bit_for_bit_as_a_new_process(exported: Exported) -> None:
    command = [sys.executable, "-c", REPEATED, str(exported.directory)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == [["Forked", "new"], True, [1, 3]]
