"""What an earlier version wrote is verified, inspected and compared by this one; what a newer one wrote is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make import EXPORTS, HERE

import converter
from converter.core.data import SCHEMA_VERSION

VERSIONS = sorted(path for path in HERE.iterdir() if path.name[0].isdigit())
KEPT = [path for version in VERSIONS for path in sorted(version.iterdir())]
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert", "saved-model": "tensorflow"}


def test_this_version_is_among_them() -> None:
    assert HERE / converter.__version__ in VERSIONS, "python tests/compatibility/make.py"
    assert {path.name for path in (HERE / converter.__version__).iterdir()} == set(EXPORTS)
    for version in VERSIONS:
        assert sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) < 300_000
    schemas = {json.loads((path / "manifest.json").read_text())["schema"] for path in KEPT}
    assert schemas == set(range(1, SCHEMA_VERSION + 1)), "a schema without a directory that was written in it"


@pytest.mark.parametrize("directory", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_proven_is_proven_again(directory: Path, snapshot: Callable[[Path], dict[str, str]]) -> None:
    before = snapshot(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    formats = {each["format"] for each in manifest["artifacts"]}
    report = converter.verify(directory, runtimes=[RUNTIMES[name] for name in sorted(formats)])
    assert report.verdict == "pass", report.reasons
    assert not report.not_run
    assert all(row.passed for row in report.rows)
    detected = [each for each in report.controls if each.applicable]
    assert detected
    assert all(each.detected for each in detected)
    assert converter.inspect(directory).files
    assert snapshot(directory) == before


@pytest.mark.parametrize("directory", [path for path in KEPT if path.name == "image_classifier"])
def test_a_scaled_kernel_of_an_earlier_version_fails(
    directory: Path, tmp_path: Path, repair: Callable[[Path, str], None]
) -> None:
    """The proof of an old directory can still fail."""
    import onnx

    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    model = onnx.load(str(copy / "model.onnx"))
    kernel = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * 1.01, kernel.name))
    onnx.save(model, str(copy / "model.onnx"))
    repair(copy, "model.onnx")
    assert converter.verify(copy, runtimes="onnxruntime").verdict == "fail"


def test_a_newer_schema_is_refused_by_name(tmp_path: Path, cnnexport: Callable[..., Any]) -> None:
    copy = Path(shutil.copytree(KEPT[0], tmp_path / "copy"))
    path = copy / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA_VERSION + 1}))
    for command in (
        ("verify", copy),
        ("inspect", copy),
        ("bench", copy),
        ("package", copy, "--for", "triton", "-o", tmp_path / "packed"),
    ):
        outcome = cnnexport(*command)
        assert outcome.code == 3, (command, outcome)
        assert f"schema {SCHEMA_VERSION + 1} is newer than {SCHEMA_VERSION}" in outcome.stderr
