"""The same model gives the same bytes, whatever the hash seed, working directory, processors and date are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from converter.core.files import digest_of, files_under, record_of

NET = """
import keras
from keras import layers as L

def net():
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 4), name="image")
    x = L.Conv2D(8, 3, padding="same", name="conv")(image)
    x = L.Conv2D(8, 3, groups=4, padding="same", activation="relu", name="grouped")(x)
    x = L.UpSampling2D(2, interpolation="bilinear", name="larger")(x)
    y = L.GlobalAveragePooling2D(name="mean", keepdims=True)(x)
    y = L.Conv2D(8, 1, activation="hard_sigmoid", name="gate")(L.Conv2D(4, 1, activation="swish", name="squeeze")(y))
    x = L.AveragePooling2D(4, name="smaller")(L.Multiply(name="gated")([x, y]))
    x = L.Reshape((16, 8), name="rows")(x)
    x = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = L.Flatten(name="flat")(L.Permute((2, 1), name="turned")(L.Dense(6, name="mixed", activation="gelu")(x)))
    return keras.Model(image, L.Dense(5, activation="softmax", name="classes")(x), name="net")
"""
EXPORT = """
import sys, time
if sys.argv[2] == "tomorrow":
    own = time.time
    time.time = lambda: own() + 86_400
import converter
report = converter.export(sys.argv[1], output=sys.argv[3])
assert report.verdict == "pass" and not report.failures, (report.reasons, report.failures)
"""


def export(place: Path, seed: int, processor: str, day: str, name: str) -> Path:
    """The directory `name` of an export, from a process in the folder `place`."""
    place.mkdir()
    limited = "import os; os.sched_setaffinity(0, {0})\n" if processor == "one" else ""
    done = subprocess.run(
        [sys.executable, "-c", limited + EXPORT, f"{place.parent / 'net.py'}:net", day, name],
        cwd=place,
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place / name


def files(directory: Path) -> dict[str, str]:
    return {
        name: record_of(directory / name).sha256
        for name in files_under(directory, directory)
        if name not in ("manifest.json", "report.json", "report.html")
    }


def without_times(directory: Path) -> Mapping[str, Any]:
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["created"]
    for artifact in manifest["artifacts"]:
        del artifact["seconds"]
    return manifest


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    one = export(tmp_path / "one", 1, "one", "today", "first")
    other = export(tmp_path / "other", 2, "all", "tomorrow", "elsewhere/second")
    assert {"model.onnx", "model.tflite", "saved_model/fingerprint.pb", "golden.npz"} <= files(one).keys()
    assert files(other) == files(one)
    assert without_times(other) == without_times(one)
    own = {
        name: record_of(one / name)
        for path in ("model.onnx", "model.tflite", "saved_model")
        for name in files_under(one / path, one)
    }
    for directory in (one, other):
        assert json.loads((directory / "report.json").read_text())["digest"] == digest_of(own)
