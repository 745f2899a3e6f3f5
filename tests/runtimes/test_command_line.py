"""`verify --runtime` and `cnnexport runtimes`: one, several, all, unknown, missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from converter.core.errors import ChildError
from converter.core.foreign import Facts
from converter.core.results import OutputResult
from converter.proof.plan import ProofOptions, plan
from converter.runtimes import ON_GPU, RUNTIMES

if TYPE_CHECKING:
    from conftest import Exported, Outcome

RunIn = Callable[..., tuple[list[OutputResult], Facts]]


def test_the_list_has_every_runtime_with_five_keys(cnnexport: Callable[..., Outcome]) -> None:
    outcome = cnnexport("runtimes", "--json")
    assert outcome.code == 0
    rows = outcome.json
    assert [row["name"] for row in rows] == list(RUNTIMES)
    for row in rows:
        assert list(row) == ["name", "version", "reads", "available", "reason"]
        assert row["available"] is (row["reason"] == "")
        assert row["version"] if row["available"] else "install" in row["reason"]
    text = cnnexport("runtimes")
    assert [line.split()[0] for line in text.stdout.splitlines()] == ["name", *RUNTIMES]


@pytest.mark.parametrize("device", ON_GPU)
def test_only_onnxruntime_takes_another_device(device: str) -> None:
    for name, runtime in RUNTIMES.items():
        assert name == "onnxruntime" or (device not in runtime.devices and "CPU" in str(runtime.unavailable(device)))


@pytest.mark.parametrize("reason", [None, "no TensorRT here"])
def test_tensorrt_runs_on_a_gpu_where_it_is_installed(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    """The plan only: this machine need not have a GPU."""
    gpu = replace(RUNTIMES["onnxruntime"], unavailable=lambda device: reason if device == "tensorrt" else None)
    monkeypatch.setitem(RUNTIMES, "onnxruntime", gpu)
    (artifact,) = [each for each in exported.report.artifacts if each.format == "onnx"]
    found, skipped = plan([artifact], ProofOptions(device="cuda"))
    assert [run.device for run in found] == ["cpu", "cuda", "cuda-tf32", *([] if reason else ["tensorrt"])]
    assert skipped == ([f"onnx in onnxruntime on tensorrt: not run: {reason}"] if reason else [])


@pytest.mark.external
def test_all_runs_every_runtime_that_is_here(exported: Exported, cnnexport: Callable[..., Outcome]) -> None:
    outcome = cnnexport("verify", exported.directory, "--runtime", "all", "--json", "--quiet")
    assert outcome.code == 0, outcome.stderr
    ran = {(row["subject"], row["runtime"]) for row in outcome.json["rows"]} - {("keras", "keras")}
    here = {name for name, runtime in RUNTIMES.items() if runtime.unavailable("cpu") is None}
    assert here >= set(RUNTIMES) - {"ncnn"}
    formats = ("onnx", "tflite", "saved-model")
    assert ran == {(form, name) for form in formats for name in here if form in RUNTIMES[name].reads}
    absent = [warning for warning in outcome.json["warnings"] if "not run" in warning]
    assert [warning.split(":")[0] for warning in absent] == ([] if "ncnn" in here else ["onnx in ncnn"])


@pytest.mark.external
def test_all_reports_what_is_missing_and_passes(
    exported: Exported, cnnexport: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CNNEXPORT_NODE_MODULES", str(tmp_path))
    outcome = cnnexport("verify", exported.directory, "--runtime", "all", "--quiet")
    assert outcome.code == 0, outcome.stderr
    for name in ("onnxruntime-node", "onnxruntime-web", "chromium"):
        assert f"warning: onnx in {name}: not run: npm package" in outcome.stdout


def test_a_missing_runtime_requested_by_name_is_exit_5(
    exported: Exported, cnnexport: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNEXPORT_CHROMIUM", "no-such-browser")
    for names in (["chromium"], ["all", "chromium"]):
        outcome = cnnexport("verify", exported.directory, *[word for name in names for word in ("--runtime", name)])
        assert outcome.code == 5
        assert "apt-get install chromium" in outcome.stderr
        assert outcome.stdout == ""


def test_an_unknown_runtime_is_exit_2_and_names_the_known(
    exported: Exported, cnnexport: Callable[..., Outcome]
) -> None:
    outcome = cnnexport("verify", exported.directory, "--runtime", "openvin")
    assert outcome.code == 2
    assert "openvino" in outcome.stderr


def test_a_runtime_without_an_artifact_to_read_is_exit_2(copied: Path, cnnexport: Callable[..., Outcome]) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["artifacts"] = [each for each in manifest["artifacts"] if each["format"] == "onnx"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", "--runtime", "litert")
    assert outcome.code == 2
    assert "litert: cannot read the formats" in outcome.stderr


@pytest.mark.external
def test_a_file_that_a_runtime_refuses_is_reported(
    exported: Exported, cnnexport: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With "all" a refusal is a warning; for a runtime requested by name it is a failed row."""
    broken = tmp_path / "onnxruntime-node"
    broken.mkdir()
    (broken / "package.json").write_text('{"version": "0", "main": "index.js"}')
    (broken / "index.js").write_text('exports.InferenceSession = {create() { throw new Error("no such operator"); }};')
    monkeypatch.setenv("CNNEXPORT_NODE_MODULES", str(tmp_path))
    modules = tmp_path / "node_modules"
    modules.symlink_to(tmp_path)
    outcome = cnnexport("verify", exported.directory, "--runtime", "all", "--json", "--quiet")
    assert outcome.code == 0, outcome.stderr
    (line,) = [each for each in outcome.json["warnings"] if "onnxruntime-node" in each and "cannot load" in each]
    assert "no such operator" in line
    named = cnnexport("verify", exported.directory, "--runtime", "onnxruntime-node", "--json", "--quiet")
    assert named.code == 8
    (row,) = [each for each in named.json["rows"] if each["subject"] == "onnx"]
    assert "no such operator" in row["error"]


@pytest.mark.parametrize("name", ["chromium", "onnxruntime-node"])
def test_a_program_that_dies_is_exit_8(
    exported: Exported, run_in: RunIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for program in ("chromium", "node"):
        fake = tmp_path / program
        fake.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 3\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ChildError, match="status 3: out of luck"):
        run_in(exported.directory, name)


def test_onnxruntime_reports_what_ran_where(exported: Exported, run_in: RunIn) -> None:
    facts = {name: run_in(exported.directory, name)[1]["facts"] for name in ("onnxruntime", "onnxruntime-noopt")}
    for each in facts.values():
        assert each["providers"] == ["CPUExecutionProvider"]
        assert each["tf32"] is False
        assert each["nodes"] == {"CPUExecutionProvider": sum(each["placement"]["CPUExecutionProvider"].values())}
    assert facts["onnxruntime"]["optimizations"] == "all"
    plain = facts["onnxruntime-noopt"]
    assert plain["optimizations"] == "none"
    written = next(each for each in exported.report.artifacts if each.format == "onnx")
    assert plain["placement"]["CPUExecutionProvider"] == dict(written.operators)
