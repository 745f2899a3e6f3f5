"""A runtime that dies, hangs or refuses the file is a failed row with its last words; the other formats are proven."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.proof import isolate

SHIM = """
import os, resource, signal, sys, time
from converter.proof import child
from converter.core.errors import InputError

def run(raw):
    if raw["subject"]["runtime"] == "{runtime}":
        {end}
    return child.run(raw)

if __name__ == "__main__":
    child.main(run)
"""
ENDS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, probably out of memory"),
    "crashed": ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "hangs": ("time.sleep(600)", "no answer after"),
    "no memory": (
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); bytearray(1 << 31)",
        "MemoryError",
    ),
    "refused": ("raise InputError('model.onnx: this runtime does not like it')", "does not like it"),
}


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the child of one runtime end as `ENDS` says."""

    def install(way: str, dead: str = "onnxruntime") -> None:
        (tmp_path / "shim").mkdir()
        (tmp_path / "shim" / "dying_child.py").write_text(SHIM.format(end=ENDS[way][0], runtime=dead))
        monkeypatch.syspath_prepend(tmp_path / "shim")
        monkeypatch.setattr(isolate, "RUN_CHILD", "dying_child")
        if way == "hangs":
            call = isolate.call

            def soon(module: str, job: Any, what: str, timeout: float = 900.0, runtime: str = "") -> Any:
                return call(module, job, what, 4.0 if runtime == dead else timeout, runtime)

            monkeypatch.setattr(isolate, "call", soon)

    return install


@pytest.mark.parametrize("way", ENDS)
def test_the_export_is_kept_beside_the_earlier_one(
    way: str,
    dying: Callable[..., None],
    cnnexport: Callable[..., Any],
    copied: Path,
    snapshot: Callable[..., Any],
) -> None:
    before = snapshot(copied)
    dying(way)
    outcome = cnnexport("tiny_nets:two_heads", "-f", "onnx,tflite", "-o", copied, "--json", "--quiet")
    assert outcome.code == 8, outcome
    report = outcome.json
    assert (report["verdict"], report["exit_code"]) == ("fail", 8)
    rows = {row["subject"]: row for row in report["rows"]}
    assert rows["tflite"]["passed"]
    assert not rows["onnx"]["passed"]
    assert ENDS[way][1] in rows["onnx"]["error"]
    assert any(ENDS[way][1] in reason for reason in report["reasons"])
    unproven = copied.with_name(f"{copied.name}.unproven")
    assert report["directory"] == str(unproven)
    assert json.loads((unproven / "report.json").read_text()) == report
    assert (unproven / "model.onnx").is_file()
    assert snapshot(copied) == before


def test_verify_reports_the_others(dying: Callable[..., None], cnnexport: Callable[..., Any], copied: Path) -> None:
    dying("crashed")
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime,litert", "--quiet", "--junit", "junit.xml")
    assert outcome.code == 8
    assert "FAIL" in outcome.stdout
    assert "SIGSEGV" in Path("junit.xml").read_text()


def test_a_wrong_answer_outranks_a_dead_runtime(
    dying: Callable[..., None], cnnexport: Callable[..., Any], copied: Path, repair: Callable[[Path, str], None]
) -> None:
    import onnx

    model = onnx.load(str(copied / "model.onnx"))
    (tensor,) = [each for each in model.graph.initializer if each.name == "main/kernel"]
    values = onnx.numpy_helper.to_array(tensor) * np.float32(1.1)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(copied / "model.onnx"))
    repair(copied, "model.onnx")
    dying("crashed", "litert")
    assert cnnexport("verify", copied, "--runtime", "onnxruntime,litert", "--quiet").code == 1


@pytest.mark.slow
def test_an_export_with_a_format_missing_does_not_replace_a_complete_one(
    cnnexport: Callable[..., Any], tmp_path: Path, snapshot: Callable[..., Any]
) -> None:
    first = cnnexport("tiny_nets:unmapped", "-f", "saved-model", "-o", "net", "--quiet")
    assert first.code == 0, first
    before = snapshot(Path("net"))
    second = cnnexport("tiny_nets:unmapped", "-o", "net", "--json", "--quiet")
    assert (second.code, second.json["verdict"]) == (6, "pass")
    assert second.json["directory"] == "net.unproven"
    assert snapshot(Path("net")) == before
    third = cnnexport("tiny_nets:unmapped", "-f", "saved-model", "-o", "net", "--quiet")
    assert third.code == 0


def test_a_library_that_aborts_when_it_is_imported_costs_its_rows_only(tmp_path: Path, nets: Path) -> None:
    """The library is imported by children alone: the export ends with its report, not with the library."""
    fake = tmp_path / "packages" / "onnxruntime"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("import os\nos.abort()\n")
    path = os.pathsep.join([str(fake.parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "converter", "tiny_nets:two_heads", "-o", "out", "--json", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 8, done.stderr.decode()
    report = json.loads(done.stdout)
    rows = {row["runtime"]: row for row in report["rows"] if row["subject"] in ("onnx", "tflite", "saved-model")}
    assert "SIGABRT" in rows["onnxruntime"]["error"]
    assert rows["litert"]["passed"]
    assert rows["tensorflow"]["passed"]
    assert [each["format"] for each in report["artifacts"]] == ["onnx", "tflite", "saved-model"]
