"""A file whose TF32 cannot be emulated is a failed row, as it is in any other runtime that refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converter.bundle.golden import read_golden
from converter.bundle.manifest import GOLDEN, read_manifest
from converter.core.clock import Clock
from converter.core.errors import InputError
from converter.proof import prove as module
from converter.proof.plan import ProofOptions, Run
from converter.proof.prove import Exported, prove

if TYPE_CHECKING:
    from conftest import Exported as Files


def test_a_file_that_does_not_run_with_tf32_is_a_failed_row(exported: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> object:
        raise InputError("model.onnx: onnxruntime cannot run it")

    manifest = read_manifest(exported.directory)
    (artifact,) = [each for each in manifest.artifacts if each.format == "onnx"]
    monkeypatch.setattr(module, "plan", lambda *_: ([Run(artifact, "onnxruntime", "cuda-tf32")], []))
    monkeypatch.setattr(module, "with_tf32_noise", refused)
    golden = read_golden(exported.directory / GOLDEN, manifest.interface)
    subject = Exported(exported.directory, (artifact,), manifest.interface, golden)
    evidence = prove(subject, ProofOptions(device="cuda"), Clock(None))
    assert evidence.verdict == "fail"
    assert [(row.device, row.error) for row in evidence.rows if row.error] == [
        ("cuda-tf32", "model.onnx: onnxruntime cannot run it")
    ]
