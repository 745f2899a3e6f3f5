"""A model of 2.6 GB: written, proven and measured within twice its size in memory; TFLite says that it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is in kilobytes on Linux"),
]
WIDTH, COUNT = 12_800, 4
SIZE = 4 * COUNT * WIDTH * WIDTH
NET = f"""
import keras
import numpy as np
from keras import layers


def large():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Flatten()(image)
    generator = np.random.default_rng(0)
    for number, width in enumerate(({WIDTH},) * {COUNT + 1}):
        dense = layers.Dense(width, activation="relu", kernel_initializer="zeros", name=f"dense{{number}}")
        x = dense(x)
        kernel = generator.standard_normal(dense.kernel.shape, np.float32)
        kernel *= np.float32((2 / len(kernel)) ** 0.5)
        dense.kernel.assign(kernel)
    return keras.Model(image, layers.Dense(10, name="scores")(x), name="large")
"""


@dataclass(frozen=True)
class Ran:
    """`peak` is the resident memory of the largest process, in bytes."""

    code: int
    stdout: str
    stderr: str
    peak: int


def run(place: Path, *command: object) -> Ran:
    texts = place / "stdout", place / "stderr"
    with texts[0].open("w") as out, texts[1].open("w") as err:
        process = subprocess.Popen([sys.executable, *map(str, command)], cwd=place, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Ran(process.returncode, texts[0].read_text(), texts[1].read_text(), usage.ru_maxrss << 10)


def test_a_model_of_two_and_a_half_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NET)
    base = run(tmp_path, "-c", "import tensorflow, keras").peak
    exported = run(tmp_path, "-m", "converter", "nets.py:large", "-o", "large", "--json")
    assert exported.code == 6, exported.stderr
    assert "tflite: the weights (2.6 GB) are more than a TFLite file can hold (2 GB)" in exported.stderr
    report = json.loads(exported.stdout)
    assert report["verdict"] == "pass"
    assert {row["subject"] for row in report["rows"]} == {"keras", "onnx", "saved-model"}
    assert all(each["detected"] for each in report["controls"] if each["applicable"])
    assert (tmp_path / "large" / "model.onnx.data").stat().st_size >= SIZE
    verified = run(tmp_path, "-m", "converter", "verify", "large", "--json")
    assert (verified.code, json.loads(verified.stdout)["verdict"]) == (0, "pass"), verified.stderr
    timed = run(
        tmp_path, "-m", "converter", "bench", "large/model.onnx", "--runtime", "onnxruntime", "--batch", 1,
        "--seconds", 2, "--json",
    )  # fmt: skip
    assert timed.code in (0, 9), timed.stderr
    for each in (exported, verified, timed):
        assert each.peak - base < 2 * SIZE, f"{each.peak / 1e9:.1f} GB"
