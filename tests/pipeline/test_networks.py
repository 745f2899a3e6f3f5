"""Whole networks beyond plain convolutions, exported in every format and proven: text, film, attention, detection."""

from __future__ import annotations

from pathlib import Path

import pytest
from sequence_models import NETWORKS

import converter
from converter.core.errors import InputError

RECURRENT = {"crnn": "LSTM", "tagger": "GRU", "translator": "LSTM", "video_predictor": ""}
"""The recurrent networks, and the operator that ONNX has for their layers"""

QUICK = {"crnn", "translator"}


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in QUICK else [pytest.mark.slow]) for each in NETWORKS]
)
def test_a_network_is_proven_in_every_format(name: str, tmp_path: Path) -> None:
    report = converter.export(NETWORKS[name](), output=tmp_path / "out", formats="onnx,tflite,saved-model", samples=4)
    assert (report.verdict, report.exit_code, report.failures) == ("pass", 0, ()), report.reasons
    missed = [control.name for control in report.controls if control.applicable and not control.detected]
    assert not missed
    if name in RECURRENT:
        kinds = {control.name.split()[0] for control in report.controls if control.detected}
        wanted = {"direction-reversed", "last-step-dropped"} | ({"gates-swapped"} if RECURRENT[name] else set())
        assert wanted <= kinds
        (onnx,) = [each for each in report.artifacts if each.format == "onnx"]
        assert not RECURRENT[name] or RECURRENT[name] in onnx.operators


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crnn", "tagger", "translator"])
def test_recurrent_operators_in_openvino(name: str, tmp_path: Path) -> None:
    report = converter.export(NETWORKS[name](), output=tmp_path / "out", formats="onnx,tflite", samples=4)
    report = converter.verify(report.directory, runtimes="onnxruntime-noopt,openvino,litert")
    assert report.verdict == "pass", report.reasons


def test_a_loop_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    from keras import ops

    from converter.tracing import running

    class Endless(keras.layers.Layer):
        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return ops.while_loop(lambda y: ops.max(y) > -1.0, lambda y: y * 0.5, ops.abs(x))

    image = keras.Input((5,))
    model = keras.Model(image, Endless(name="never")(keras.layers.Dense(3)(image)))
    monkeypatch.setattr(running, "LIMIT", 2.0)
    with pytest.raises(InputError, match=r"^never \(Endless\): one batch took more than 2 s\n"):
        converter.export(model, output=tmp_path / "out", formats="onnx")
    assert not (tmp_path / "out").exists()
