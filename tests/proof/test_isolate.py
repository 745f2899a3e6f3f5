"""The working place of a child: its temporary files are removed, and it imports nothing from the artifact directory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.core.errors import ChildError
from converter.proof import children, isolate
from converter.proof.plan import first_runtimes

BODY = "import json, os, pathlib, tempfile\nplace = pathlib.Path(tempfile.mkdtemp(prefix='browser-'))\n"
LEFT = "(place / 'deep').mkdir()\n(place / 'deep' / 'lock').symlink_to('nowhere')\n"  # as Chromium leaves it


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for temporary files of this process; modules in `tmp_path` can be imported."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.syspath_prepend(tmp_path)
    return place


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; it must within ten seconds."""
    last = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("print(json.dumps({'place': str(place)}))", None),
        ("print('no answer')", "without an answer"),
        ("os.abort()", "SIGABRT"),
        ("import time; time.sleep(60)", "no answer after"),
    ],
)
def test_temporary_files_of_a_child_are_removed(tmp_path: Path, scratch: Path, end: str, error: str | None) -> None:
    (tmp_path / "littering.py").write_text(BODY + LEFT + end)
    if error is None:
        place = Path(isolate.call("littering", "{}", "a runtime")["place"])
        assert place.is_relative_to(scratch)
        assert not place.exists()
    else:
        with pytest.raises(ChildError, match=error):
            isolate.call("littering", "{}", "a runtime", timeout=3)
    assert list(scratch.iterdir()) == []


def test_nothing_beside_the_artifacts_is_imported(
    cnnexport: Callable[..., Any], copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A downloaded directory may hold a json.py; `cd` into it and `cnnexport verify .` must not run that."""
    sentinel = tmp_path / "sentinel"
    for name in ("json", "numpy", "typing", "sitecustomize"):
        (copied / f"{name}.py").write_text(f"open({str(sentinel)!r}, 'w')")
    monkeypatch.chdir(copied)
    assert cnnexport("verify", ".", "--runtime", "onnxruntime", "--quiet").code == 0
    assert not sentinel.exists()


def test_children_that_wait_take_the_job_or_are_stopped(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "patient.py").write_text(
        "import json, os, sys\nprint(flush=True)\njob = json.load(sys.stdin)\n"
        "print(json.dumps({'pid': os.getpid(), 'job': job}))"
    )
    wanted = [("patient", ""), ("patient", "")]
    with children.waiting_children(wanted):
        until(lambda: len(children.WAITING.get(("patient", ""), [])) == 2)
        waiting = [child.process for child in children.WAITING["patient", ""]]
        assert len(waiting) == 2
        answer = isolate.call("patient", {"number": 7}, "a runtime")
        assert answer["job"] == {"number": 7}
        assert answer["pid"] in [each.pid for each in waiting]
        assert len(children.WAITING["patient", ""]) == 1
    assert all(each.poll() is not None for each in waiting)
    assert list(scratch.iterdir()) == []


def test_children_start_one_after_the_other(tmp_path: Path, scratch: Path) -> None:
    """The next one starts when the one before says that it is ready, has ended, or has got its job."""
    (tmp_path / "importing.py").write_text(
        f"import os, pathlib, sys, time\nplace = pathlib.Path({str(tmp_path)!r})\n"
        "while not (place / sys.argv[1]).exists(): time.sleep(0.02)\n"
        "if sys.argv[1] == 'ends': sys.exit(1)\n"
        "print(flush=True)\nsys.stdin.read()\nprint('{}')"
    )
    names = ["ready", "ends", "busy", "last"]

    def started() -> list[str]:
        return [name for name in names if children.WAITING.get(("importing", name))]

    with children.waiting_children([("importing", name) for name in names]):
        until(lambda: started() == ["ready"])
        (tmp_path / "ready").touch()
        until(lambda: started() == ["ready", "ends"])
        (tmp_path / "ends").touch()
        until(lambda: started() == ["ready", "ends", "busy"])
        with children.taken("importing", "busy"):
            until(lambda: started() == ["ready", "ends", "last"])
    assert list(scratch.iterdir()) == []


def test_a_child_that_has_not_started_yet_is_not_started_twice(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "importing.py").write_text("import sys\nsys.stdin.read()")
    with children.waiting_children([("importing", "first"), ("importing", "second")]):
        until(lambda: bool(children.WAITING.get(("importing", "first"))))
        with children.taken("importing", "second"):
            with children.taken("importing", "first"):
                time.sleep(0.3)
            assert not children.WAITING.get(("importing", "second"))
    assert list(scratch.iterdir()) == []


def test_the_children_of_an_export_are_guessed_from_its_manifest(copied: Path, tmp_path: Path) -> None:
    guessed = children.expected(copied)
    assert {runtime for _, runtime in guessed} == {"onnxruntime", "litert", "tensorflow"}
    assert children.expected(copied / "model.onnx") == [(children.RUN_CHILD, "onnxruntime")]
    assert all(first_runtimes(form) == [runtime] for form, runtime in children.FIRST_RUNTIMES.items())
    for text in (
        "",
        "{",
        "[]",
        '{"artifacts": 3}',
        '{"artifacts": [3]}',
        '{"artifacts": [{"format": []}]}',
        "[" * 9999,
    ):
        (tmp_path / "manifest.json").write_text(text, encoding="ascii")
        assert children.expected(tmp_path) == []
    assert children.expected(tmp_path / "absent") == []


def test_a_child_that_waits_already_is_not_started_again(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "patient.py").write_text("import sys\nsys.stdin.read()")
    with children.waiting_children([("patient", "")]), children.waiting_children([("patient", "")]):
        until(lambda: bool(children.WAITING.get(("patient", ""))))
        assert len(children.WAITING["patient", ""]) == 1
