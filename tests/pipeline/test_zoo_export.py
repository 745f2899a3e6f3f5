"""The whole zoo at full size in all formats: takes minutes, needs `-m slow`. Each export is a separate process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo

pytestmark = pytest.mark.slow

LIMIT = 4e9  # bytes of memory for exporting vgg16, all processes together
SHUFFLES = {"Slice", "StridedSlice", "Split", "Concat", "ConcatV2", "SLICE", "STRIDED_SLICE", "SPLIT", "CONCATENATION"}


@dataclass
class Run:
    code: int
    report: dict[str, Any]
    stderr: str
    directory: Path
    peak: int = 0

    def operators(self, kind: str) -> dict[str, int]:
        return next(each["operators"] for each in self.report["artifacts"] if each["format"] == kind)


@dataclass
class Memory:
    """Peak resident bytes of a process and its descendants together, sampled every `interval` seconds."""

    root: int
    interval: float = 0.05
    peak: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.peak = max(self.peak, sum(map(resident, family(self.root))))

    def stop(self) -> int:
        self._stop.set()
        return self.peak


def family(root: int) -> Iterator[int]:
    """A process and its descendants that are still running."""
    yield root
    for tasks in Path(f"/proc/{root}/task").glob("*/children"):
        try:
            children = tasks.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def resident(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def run(arguments: Sequence[str], directory: Path) -> Run:
    command = [sys.executable, "-m", "converter", *arguments, "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=directory
    )
    memory = Memory(process.pid)
    watcher = threading.Thread(target=memory.watch)
    watcher.start()
    stdout, stderr = process.communicate()
    peak = memory.stop()
    watcher.join()
    report = json.loads(stdout) if stdout else {}
    return Run(process.returncode, report, stderr, directory / report.get("directory", ""), peak)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Run]]:
    """Exports a zoo model once for the whole module."""
    done: dict[str, Run] = {}
    directory = tmp_path_factory.mktemp("zoo")

    def once(name: str) -> Run:
        if name not in done:
            done[name] = run([name], directory)
        return done[name]

    yield once
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", list(zoo.MODELS))
def test_every_architecture_is_proven_in_every_format(name: str, export: Callable[[str], Run]) -> None:
    done = export(name)
    assert done.code == 0, (done.report.get("reasons"), done.stderr)
    report = done.report
    assert {row["subject"] for row in report["rows"]} >= {"onnx", "tflite", "saved-model"}
    for row in report["rows"]:
        assert [each["output"] for each in row["outputs"]] == list(zoo.MODELS[name].outputs)
        for each in row["outputs"]:
            assert each["passed"]
            assert each["relative_l2"] <= report["tolerances"][each["output"]]["value"]
            assert report["tolerances"][each["output"]]["noise"] is not None
    controls = {control["name"] for control in report["controls"]}
    assert {"another-sample", "channels-exchanged"} <= controls
    assert [control for control in controls if control.startswith("kernel-scaled-1.001 ")]
    assert ("channels-reversed" in controls) == (zoo.MODELS[name].input_shape[-1] > 1)
    assert all(control["detected"] for control in report["controls"])
    assert report["source"]["untrained"] is True
    assert {"model.onnx", "model.tflite", "saved_model"} <= {path.name for path in done.directory.iterdir()}
    assert "BatchNormalization" not in done.operators("onnx")
    assert not [operator for operator in done.operators("tflite") if "Flex" in operator]


@pytest.mark.parametrize("name", ["resnext50", "resnext50-lambda"])
def test_groups_are_native_convolutions(name: str, export: Callable[[str], Run]) -> None:
    import onnx

    done = export(name)
    model = onnx.load(done.directory / "model.onnx")
    groups = [
        attribute.i
        for node in model.graph.node
        if node.op_type == "Conv"
        for attribute in node.attribute
        if attribute.name == "group" and attribute.i > 1
    ]
    assert groups == [32] * 16
    for kind in ("onnx", "tflite", "saved-model"):
        assert not SHUFFLES & set(done.operators(kind))


@pytest.mark.parametrize("kind", ["onnx", "tflite", "saved-model"])
def test_both_spellings_of_resnext50_give_the_same_graph(kind: str, export: Callable[[str], Run]) -> None:
    assert export("resnext50").operators(kind) == export("resnext50-lambda").operators(kind)


def test_vgg16_stays_below_the_memory_limit(export: Callable[[str], Run]) -> None:
    done = export("vgg16")
    weights = 4 * zoo.MODELS["vgg16"].parameters
    assert weights < done.peak < LIMIT, f"{done.peak / 1e9:.2f} GB"


KERNELS = ["conv1/kernel", "res2a_branch1/kernel", "res3b_branch2b/kernel", "res5c_branch2c/kernel", "fc1000/kernel"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_scaled_kernel_of_resnet50_is_detected(
    kernel: str, export: Callable[[str], Run], tmp_path: Path, repair: Callable[[Path, str], None]
) -> None:
    """Scaled by 1.001, in the first, the last and three other convolutions, with the hash repaired."""
    import onnx

    directory = Path(shutil.copytree(export("resnet50").directory, tmp_path / "resnet50"))
    model = onnx.load(directory / "model.onnx")
    (tensor,) = [each for each in model.graph.initializer if each.name == kernel]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.001), kernel))
    onnx.save(model, directory / "model.onnx")
    repair(directory, "model.onnx")
    done = run(["verify", str(directory), "--runtime", "onnxruntime"], tmp_path)
    assert done.code == 1
    assert "predictions" in " ".join(done.report["reasons"])
    (row,) = [each for each in done.report["rows"] if each["subject"] == "onnx"]
    assert row["outputs"][0]["relative_l2"] > done.report["tolerances"]["predictions"]["value"]
