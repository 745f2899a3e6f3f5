"""One export of a small network with grouped convolutions in every precision, shared by the tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from converter.core.data import TensorSpec
from converter.core.samples import generate

NAMES = ("fp16", "int8", "int8-weights")
FORMATS = ("onnx", "tflite")
IMAGE = TensorSpec("image", (None, 32, 32, 3), layout="nhwc")


def write_samples(path: Path, count: int = 48) -> Path:
    """An .npz file of `count` images of different contrast for `two_heads`."""
    np.savez(path, **generate((IMAGE,), count, 7))
    return path


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples") / "samples.npz")


@pytest.fixture(scope="session")
def precise(tmp_path_factory: pytest.TempPathFactory, nets: Path, samples: Path) -> Path:
    """tiny_nets:two_heads in ONNX and TFLite, in float32 and every other precision. Read it; change only a copy."""
    import converter

    root = tmp_path_factory.mktemp("precise") / "two_heads"
    report = converter.export(
        "tiny_nets:two_heads", output=root, formats=FORMATS, precision=NAMES, calibration=os.fspath(samples)
    )
    assert report.verdict == "pass", report.reasons
    assert not report.failures
    return root
