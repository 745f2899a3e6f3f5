"""Whole networks beyond plain convolutions, exported in every format and proven: text, film, attention, detection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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


def test_a_loop_that_grows_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    import tensorflow as tf
    from keras import ops

    from converter.tracing import memory

    class Growing(keras.layers.Layer):
        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            more, shape = ops.ones((2**18, 3)), [tf.TensorShape([None, 3])]
            return tf.while_loop(
                lambda y: ops.max(y) > -1.0,
                lambda y: [ops.concatenate([y, more])],
                [ops.abs(x)],
                shape_invariants=shape,
            )[0][: ops.shape(x)[0]]

    taken = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    image = keras.Input((5,))
    model = keras.Model(image, Growing(name="more")(keras.layers.Dense(3)(image)))
    monkeypatch.setattr(memory, "available", lambda: (taken + 10**9) / memory.SHARE)
    with pytest.raises(InputError, match=r"^more \(Growing\): one batch took more than \d+ GB of memory\n"):
        converter.export(model, output=tmp_path / "out", formats="onnx")
    assert not (tmp_path / "out").exists()


def test_a_tensor_that_no_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    from keras import ops

    from converter.pipeline import fitting

    monkeypatch.setattr(fitting, "PATIENCE", 0.0)

    class Cell(keras.layers.Layer):
        state_size = output_size = 4

        def call(self, x: Any, states: Any) -> Any:
            return states[0] + ops.sum(ops.ones((10**6, 10**6))), states

    model = keras.Sequential([keras.Input((None, 3)), keras.layers.RNN(Cell(), name="giant")])
    with pytest.raises(InputError, match=r"^cell \(Cell\): Fill makes a tensor of 4000 GB"):
        converter.export(model, output=tmp_path / "out", formats="onnx")


def test_a_mask_of_another_length_is_refused(tmp_path: Path) -> None:
    import keras

    steps, mask = keras.Input((5, 3)), keras.Input((7,), dtype="bool")
    model = keras.Model([steps, mask], keras.layers.LSTM(4, name="reader")(steps, mask=mask))
    with pytest.raises(converter.ConversionError, match=r"reader: a mask of shape \(None, 7\) for steps of shape"):
        converter.export(model, output=tmp_path / "out", formats="onnx")


@pytest.mark.parametrize("kind", ["lora", pytest.param("int8", marks=pytest.mark.slow), "int4", "float64"])
def test_layers_of_other_types_of_weights(kind: str, tmp_path: Path) -> None:
    """LoRA, weights that Keras has quantized, and a model of float64."""
    import keras

    dtype = "float64" if kind == "float64" else None
    layers = [keras.layers.Conv2D(4, 3, dtype=dtype), keras.layers.Flatten(dtype=dtype)]
    layers += [keras.layers.Dense(16, "relu", dtype=dtype), keras.layers.Dense(4, dtype=dtype)]
    model = keras.Sequential([keras.Input((6, 6, 3), dtype=dtype), *layers])
    if kind == "lora":
        layers[0].enable_lora(2)
        layers[2].enable_lora(2)
        for index, variable in enumerate(model.trainable_variables):
            variable.assign(np.random.default_rng(index).normal(size=variable.shape) * 0.3)
    elif kind != "float64":
        for layer in layers[2:]:
            layer.quantize(kind)
    report = converter.export(model, output=tmp_path / "out", samples=4)
    assert report.verdict == "pass", report.reasons
    assert {each.format for each in report.artifacts} == {"onnx", "tflite", "saved-model"}
