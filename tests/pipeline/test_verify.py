"""`cnnexport verify DIR`: an intact export passes, and a changed one does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converter

QUICK = ("--runtime", "onnxruntime", "--runtime", "litert", "--quiet")  # without loading TensorFlow


def scale_kernel(path: Path, name: str, factor: float) -> None:
    import onnx

    model = onnx.load(str(path))
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(factor), name))
    onnx.save(model, str(path))


def assert_refused(outcome: Any, code: int, *fragments: str) -> None:
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    assert 1 <= len(outcome.stderr.splitlines()) <= 3, outcome.stderr
    assert "Traceback" not in outcome.stderr
    for fragment in fragments:
        assert fragment in outcome.stderr


def assert_not_run(outcome: Any, *fragments: str) -> None:
    """A failed row with the last words of the runtime, and the exit code of a runtime that gave no outputs."""
    assert outcome.code == 8, outcome
    assert "Traceback" not in outcome.stdout + outcome.stderr
    assert "FAIL" in outcome.stdout
    text = " ".join(outcome.stdout.split())
    for fragment in fragments:
        assert fragment in text


def test_intact_export_passes_and_is_only_read(
    cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., Any]
) -> None:
    before = snapshot(copied.parent)
    outcome = cnnexport("verify", copied, "--json", "--quiet")
    assert outcome.code == 0
    assert outcome.stderr == ""
    report = outcome.json
    assert report["verdict"] == "pass"
    assert {row["subject"] for row in report["rows"]} == {"keras", "onnx", "tflite", "saved-model"}
    assert all(control["detected"] for control in report["controls"])
    assert snapshot(copied.parent) == before


def test_verify_finds_what_the_export_found(cnnexport: Callable[..., Any], exported: Any) -> None:
    report = cnnexport("verify", exported.directory, "--json", *QUICK).json
    for name, tolerance in exported.report.tolerances.items():
        assert report["tolerances"][name]["noise"] == pytest.approx(tolerance.noise)
        assert report["separation"][name] == pytest.approx(exported.report.separation[name])
    stored = {control.name for control in exported.report.controls if "saved-model" not in control.name}
    assert {control["name"] for control in report["controls"]} == stored


@pytest.mark.parametrize(
    ("kernel", "output"), [("stem/kernel", "main"), ("grouped/kernel", "main"), ("aux/kernel", "aux")]
)
def test_scaled_kernel_with_a_repaired_hash_fails(
    kernel: str, output: str, cnnexport: Callable[..., Any], copied: Path, repair: Callable[..., None]
) -> None:
    scale_kernel(copied / "model.onnx", kernel, 1.001)
    repair(copied, "model.onnx")
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", "--quiet")
    assert outcome.code == 1
    assert f"output {output}" in " ".join(outcome.stdout.split())
    assert "fail" in outcome.stdout


def test_scaling_by_one_passes(cnnexport: Callable[..., Any], copied: Path, repair: Callable[..., None]) -> None:
    """Rewriting the file and its hash is not what the other test detects."""
    scale_kernel(copied / "model.onnx", "stem/kernel", 1.0)
    repair(copied, "model.onnx")
    assert cnnexport("verify", copied, "--runtime", "onnxruntime", "--quiet").code == 0


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "saved_model/saved_model.pb"])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_one_changed_byte_is_damage(name: str, place: str, cnnexport: Callable[..., Any], copied: Path) -> None:
    path = copied / name
    content = bytearray(path.read_bytes())
    content[{"start": 0, "middle": len(content) // 2, "end": -1}[place]] ^= 1
    path.write_bytes(content)
    assert_refused(cnnexport("verify", copied, *QUICK), 3, path.name, "damaged")


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "golden.npz", "saved_model/saved_model.pb"])
def test_missing_file(name: str, cnnexport: Callable[..., Any], copied: Path) -> None:
    (copied / name).unlink()
    assert_refused(cnnexport("verify", copied, *QUICK), 3, Path(name).name)


@pytest.fixture(scope="module")
def another_seed(tmp_path_factory: pytest.TempPathFactory, nets: Path) -> Path:
    """An export of the same architecture with another seed."""
    import tiny_nets

    directory = tmp_path_factory.mktemp("another") / "two_heads"
    converter.export(tiny_nets.two_heads(seed=1), converter.ExportOptions(("onnx",), directory))
    return directory


@pytest.mark.parametrize("repaired", [True, False], ids=["repaired", "unrepaired"])
def test_golden_arrays_of_another_seed_fail(
    repaired: bool, cnnexport: Callable[..., Any], copied: Path, another_seed: Path, repair: Callable[..., None]
) -> None:
    shutil.copy(another_seed / "golden.npz", copied / "golden.npz")
    if repaired:
        repair(copied, "golden.npz")
    outcome = cnnexport("verify", copied, *QUICK)
    assert outcome.code == 1
    assert "main" in outcome.stdout


def test_changed_golden_byte_never_passes(cnnexport: Callable[..., Any], copied: Path) -> None:
    path = copied / "golden.npz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in the zip's end record: every array is still read correctly
    path.write_bytes(content)
    assert_refused(cnnexport("verify", copied, *QUICK), 3, "golden.npz")


def test_missing_manifest(cnnexport: Callable[..., Any], copied: Path) -> None:
    (copied / "manifest.json").unlink()
    assert_refused(cnnexport("verify", copied, "--quiet"), 3, "manifest.json", "not an export")


def test_newer_manifest(cnnexport: Callable[..., Any], copied: Path) -> None:
    path = copied / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    assert_refused(cnnexport("verify", copied, "--quiet"), 3, "schema 99", "upgrade")


def test_garbled_manifest(cnnexport: Callable[..., Any], copied: Path) -> None:
    (copied / "manifest.json").write_text('{"schema": 1')
    assert_refused(cnnexport("verify", copied, "--quiet"), 3, "manifest.json")


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_no_directory(name: str, cnnexport: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(cnnexport("verify", name, "--quiet"), 3, name)


def test_artifacts_removed_from_the_manifest_do_not_pass(cnnexport: Callable[..., Any], copied: Path) -> None:
    path = copied / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "artifacts": []}))
    assert cnnexport("verify", copied, "--quiet").code not in (0, 70)


def test_unknown_runtime(cnnexport: Callable[..., Any], copied: Path) -> None:
    assert_refused(cnnexport("verify", copied, "--runtime", "onnxruntim", "--quiet"), 2, "onnxruntim", "litert")


def test_runtime_that_reads_no_artifact_does_not_pass(cnnexport: Callable[..., Any], another_seed: Path) -> None:
    assert_refused(cnnexport("verify", another_seed, "--runtime", "litert", "--quiet"), 2, "litert")


@pytest.mark.parametrize(("name", "runtime"), [("model.tflite", "litert"), ("model.onnx", "onnxruntime")])
@pytest.mark.parametrize("kept", [0, 64, 0.5])
def test_truncated_artifact_with_a_repaired_hash(
    name: str, runtime: str, kept: float, cnnexport: Callable[..., Any], copied: Path, repair: Callable[..., None]
) -> None:
    """Whether the runtime refuses the file or crashes on it: a failed row; no pass, no traceback."""
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    repair(copied, name)
    outcome = cnnexport("verify", copied, "--runtime", runtime, "--quiet")
    assert_not_run(outcome, f"{name.removeprefix('model.')} in {runtime} on cpu: ", name)


def keep_outside(path: Path, location: str) -> bytes:
    """Make the ONNX file read the kernel of its first convolution from `location`; returns the bytes to put there."""
    import onnx

    model = onnx.load(str(path))
    (tensor,) = [each for each in model.graph.initializer if each.name == "stem/kernel"]
    content = onnx.numpy_helper.to_array(tensor).tobytes()
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return content


@pytest.mark.parametrize("runtime", ["onnxruntime", "opencv"])  # OpenCV follows every path
@pytest.mark.parametrize("way", ["parent", "absolute", "manifest"])
def test_weights_from_outside_are_refused(
    way: str, runtime: str, cnnexport: Callable[..., Any], copied: Path, repair: Callable[..., None]
) -> None:
    secret = copied.parent / "secret"
    location = {"parent": "../secret", "absolute": str(secret), "manifest": "manifest.json"}[way]
    secret.write_bytes(keep_outside(copied / "model.onnx", location))
    repair(copied, "model.onnx")
    assert_refused(cnnexport("verify", copied, "--runtime", runtime, "--quiet"), 4, "model.onnx", "weights", location)


@pytest.mark.parametrize("way", ["beside", "missing", "short", "unlisted", "link"])
def test_a_sidecar_is_complete_listed_and_not_a_link(
    way: str, cnnexport: Callable[..., Any], copied: Path, repair: Callable[..., None]
) -> None:
    sidecar = copied / "model.onnx.data"
    content = keep_outside(copied / "model.onnx", sidecar.name)
    repair(copied, "model.onnx")
    if way == "link":
        (copied.parent / "secret").write_bytes(content)
        sidecar.symlink_to(copied.parent / "secret")
    elif way != "missing":
        sidecar.write_bytes(content[:100] if way == "short" else content)
    if way in ("beside", "short"):
        repair(copied, sidecar.name)
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", "--quiet")
    if way == "beside":
        assert outcome.code == 0
    elif way in ("missing", "short"):
        assert_not_run(outcome, "model.onnx")
    else:
        assert_refused(outcome, 3, "model.onnx")


def test_a_format_that_no_runtime_reads_is_not_left_out(cnnexport: Callable[..., Any], copied: Path) -> None:
    path = copied / "manifest.json"
    raw = json.loads(path.read_text())
    raw["artifacts"][0]["format"] = "coreml"
    path.write_text(json.dumps(raw))
    assert_refused(cnnexport("verify", copied, "--quiet"), 3, "model.onnx", "coreml")


def test_a_batch_beyond_memory_is_refused(cnnexport: Callable[..., Any], copied: Path) -> None:
    path = copied / "manifest.json"
    raw = json.loads(path.read_text())
    for spec in raw["artifacts"][0]["inputs"]:
        spec["shape"][0] = 2**31 - 1
    path.write_text(json.dumps(raw))
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", "--quiet")
    assert_not_run(outcome, "model.onnx", "a batch of 2,147,483,647 samples")


@pytest.mark.parametrize("form", ["table", "json"])
def test_names_in_a_manifest_are_not_commands(
    form: str, cnnexport: Callable[..., Any], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied / "manifest.json"
    raw = json.loads(path.read_text())
    name = "::error::a\x1b[31m\n::error::b ##[error]c"
    changed = {"model": name, "warnings": [name], "source": {name: name}}
    path.write_text(json.dumps({**raw, **changed}))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", *(["--json"] if form == "json" else []))
    assert outcome.code == 0
    for line in (outcome.stdout + outcome.stderr).splitlines():
        assert line.isprintable()
        assert "##[" not in line
        assert line.startswith("::warning title=") or not line.lstrip().startswith("::")


@pytest.mark.parametrize(
    "arguments", [("verify", "x" * 300), ("verify", ".", "--html", "x" * 300), ("x" * 300 + ":f",)]
)
def test_names_that_are_too_long(arguments: tuple[str, ...], cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport(*arguments, "--quiet")
    assert_refused(outcome, 7 if "--html" in arguments else 3, "xxx")


def test_artifact_of_another_model_in_its_place(
    cnnexport: Callable[..., Any], copied: Path, repair: Callable[..., None]
) -> None:
    """The file loads but has other inputs: refused because of the names, without a crash."""
    import onnx
    from onnx import TensorProto, helper

    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 7])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 7]) for name in ("main", "aux")]
    nodes = [helper.make_node("Relu", ["image"], [name]) for name in ("main", "aux")]
    graph = helper.make_graph(nodes, "other", [given], outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), copied / "model.onnx"
    )
    repair(copied, "model.onnx")
    assert_not_run(cnnexport("verify", copied, "--runtime", "onnxruntime", "--quiet"), "model.onnx")


def test_copied_elsewhere(cnnexport: Callable[..., Any], copied: Path, tmp_path: Path) -> None:
    moved = tmp_path / "ünï code" / "other name"
    moved.parent.mkdir()
    copied.rename(moved)
    assert cnnexport("verify", moved, *QUICK).code == 0


def test_verify_needs_neither_tensorflow_nor_keras(exported: Any, tmp_path: Path) -> None:
    """In a new process, where importing them raises."""
    stubs = tmp_path / "stubs"
    for name in ("tensorflow", "keras", "tf2onnx", "onnx"):
        (stubs / name).mkdir(parents=True)
        (stubs / name / "__init__.py").write_text(f"raise ImportError('{name} is not for you')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(stubs), *sys.path])}
    command = [sys.executable, "-m", "converter", "verify", str(exported.directory), *QUICK, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {row["runtime"] for row in report["rows"]} == {"keras", "onnxruntime", "litert"}
    broken = subprocess.run([sys.executable, "-c", "import keras"], capture_output=True, env=environment, check=False)
    assert broken.returncode == 1


def test_tolerance_can_be_replaced(cnnexport: Callable[..., Any], copied: Path) -> None:
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", "--tolerance", "1e-12", "--json", "--quiet")
    assert outcome.code == 1
    assert outcome.json["tolerances"]["main"]["chosen"] is True
    blind = cnnexport("verify", copied, "--runtime", "onnxruntime", "--tolerance", "10", "--json", "--quiet")
    assert blind.code == 9  # nothing could fail at that tolerance


def without(runtime: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without `runtime`."""
    from dataclasses import replace

    from converter.runtimes import RUNTIMES

    monkeypatch.setitem(RUNTIMES, runtime, replace(RUNTIMES[runtime], unavailable=lambda device: reason))


def test_a_format_without_an_available_runtime_is_reported(
    cnnexport: Callable[..., Any], exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("tensorflow", "not on this machine", monkeypatch)
    outcome = cnnexport("verify", exported.directory, "--json", "--quiet")
    assert outcome.code == 0, outcome
    assert {row["subject"] for row in outcome.json["rows"]} == {"keras", "onnx", "tflite"}
    assert "saved-model in tensorflow: not run: not on this machine" in outcome.json["warnings"]
    alone = cnnexport("verify", exported.directory / "saved_model", "--quiet")
    assert_refused(alone, 5, "not on this machine")
    assert_refused(cnnexport("verify", exported.directory, "--runtime", "tensorflow"), 5, "not on this machine")


def test_an_export_proves_every_format(
    cnnexport: Callable[..., Any], tmp_path: Path, nets: Path, monkeypatch: Any
) -> None:
    without("litert", "not on this machine", monkeypatch)
    outcome = cnnexport("tiny_nets:stock", "-f", "onnx", "-f", "tflite", "-o", tmp_path / "out", "--quiet")
    assert_refused(outcome, 5, "not on this machine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "subjects"),
    [("model.onnx", {"onnx"}), ("model.tflite", {"tflite"}), ("manifest.json", {"onnx", "tflite"})],
)
def test_one_artifact(cnnexport: Callable[..., Any], exported: Any, name: str, subjects: set[str]) -> None:
    chosen = QUICK if name == "manifest.json" else ("--quiet",)
    outcome = cnnexport("verify", exported.directory / name, *chosen, "--json")
    assert outcome.code == 0, outcome
    assert {row["subject"] for row in outcome.json["rows"]} == {"keras", *subjects}


@pytest.mark.parametrize("name", ["golden.npz", "report.json"])
def test_a_file_that_is_not_an_artifact(cnnexport: Callable[..., Any], exported: Any, name: str) -> None:
    assert_refused(cnnexport("verify", exported.directory / name), 3, name, "model.onnx")


def test_an_artifact_without_its_manifest(cnnexport: Callable[..., Any], exported: Any, tmp_path: Path) -> None:
    shutil.copy(exported.directory / "model.onnx", tmp_path / "model.onnx")
    assert_refused(cnnexport("verify", tmp_path / "model.onnx"), 3, "manifest.json")
