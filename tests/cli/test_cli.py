"""The command line: its output streams, its imports, and the commands that need no model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo

HEAVY = {"tensorflow", "keras", "numpy", "onnxruntime", "onnx", "tf2onnx", "ai_edge_litert", "h5py", "rich"}


def imported_by(*arguments: str) -> set[str]:
    """Top-level packages that `python -m converter ARGUMENTS` imports."""
    command = [sys.executable, "-X", "importtime", "-m", "converter", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [("--help",), ("export", "--help"), ("verify", "-h"), ("--version",), ("list",)])
def test_light_commands_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    found = imported_by(*arguments)
    assert "click" in found
    assert not HEAVY & found


def test_help_names_commands_and_exit_codes(cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport("--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    for word in ("export", "verify", "list", "Exit codes"):
        assert word in outcome.stdout


def test_version(cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport("--version")
    assert outcome.code == 0
    assert outcome.stdout.startswith("cnnexport, version 0.")


def test_list(cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport("list")
    assert (outcome.code, outcome.stderr) == (0, "")
    header, *lines = outcome.stdout.splitlines()
    assert header.split() == ["name", "input", "classes", "parameters", "outputs"]
    assert [line.split()[0] for line in lines] == list(zoo.MODELS)
    assert "main, aux1, aux2" in outcome.stdout
    assert "23,056,388" in outcome.stdout


def test_list_json(cnnexport: Callable[..., Any]) -> None:
    rows = cnnexport("list", "--json").json
    assert [row["name"] for row in rows] == list(zoo.MODELS)
    for row, spec in zip(rows, zoo.MODELS.values(), strict=True):
        assert set(row) == {"name", "input_shape", "classes", "parameters", "outputs"}
        assert row["input_shape"] == list(spec.input_shape)
        assert (row["classes"], row["parameters"]) == (spec.classes, spec.parameters)
        assert row["outputs"] == list(spec.outputs)


def test_table_on_stdout_progress_on_stderr(cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport("tiny_nets:two_heads", "-f", "onnx", "-f", "tflite")
    assert outcome.code == 0
    assert Path("artifacts/two_heads/model.onnx").is_file()
    for stage in ("load", "reference", "rewrite", "trace", "write onnx", "write tflite", "verify onnx in onnxruntime"):
        assert f" s  {stage}\n" in outcome.stderr
        assert f" s  {stage}" not in outcome.stdout
    assert "\x1b" not in outcome.stdout + outcome.stderr
    table = outcome.stdout
    for word in ("format", "runtime", "error", "noise", "verdict", "size", "time", "onnxruntime", "litert", "pass"):
        assert word in table
    assert max(map(len, table.splitlines())) <= 100


def test_quiet(cnnexport: Callable[..., Any], copied: Path) -> None:
    outcome = cnnexport("verify", copied, "--runtime", "onnxruntime", "--quiet")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert "onnxruntime" in outcome.stdout


def test_export_in_a_separate_process(nets: Path, tmp_path: Path) -> None:
    """With --json, standard output is one JSON document, and native libraries write nothing into the progress."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(nets), *sys.path])}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    command = [sys.executable, "-m", "converter", "tiny_nets:two_heads", "-f", "onnx", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "pass"
    assert report["directory"] == "artifacts/two_heads"
    assert json.loads((tmp_path / "artifacts/two_heads/report.json").read_text()) == report
    assert all(line.strip()[0].isdigit() and " s  " in line for line in done.stderr.splitlines()), done.stderr


def test_tensorflow_is_loaded_silently_and_hides_the_gpu_from_itself_only() -> None:
    code = "import os; from converter.tracing import context; context.quiet_tensorflow(); import tensorflow as tf\n"
    code += "print(os.environ.get('CUDA_VISIBLE_DEVICES'), tf.config.list_physical_devices('GPU'))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "TF_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout, done.stderr) == ("None []\n", "")


def test_debug_shows_the_traceback(cnnexport: Callable[..., Any]) -> None:
    assert "Traceback" in cnnexport("verify", "nowhere", "--debug").stderr
    assert "Traceback" not in cnnexport("verify", "nowhere").stderr


@pytest.mark.parametrize("arguments", [("verify",), ("export",), ("list", "--format", "x"), ("--nonsense",)])
def test_wrong_usage(arguments: tuple[str, ...], cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport(*arguments)
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert 1 <= len(outcome.stderr.splitlines()) <= 3


def test_an_unexpected_error_is_reported_as_a_bug(
    cnnexport: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:

    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("converter.pipeline.verify.verify", broken)
    outcome = cnnexport("verify", "anything")
    assert outcome.code == 70
    assert "a bug in cnnexport: ZeroDivisionError" in outcome.stderr
    assert "Traceback" not in outcome.stderr
