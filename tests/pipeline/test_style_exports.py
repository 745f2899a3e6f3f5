"""Whole exports of models in unusual styles: what was asked for is written, and every format is proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import converter
from converter.core.data import Format
from converter.core.effort import Effort
from converter.formats import FORMATS

ALL = {"keras", "onnx", "tflite", "saved-model"}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)


def proven(model: Any, directory: Path, **options: Any) -> Any:
    report = converter.export(model, output=directory, samples=3, **options)
    assert (report.verdict, report.reasons) == ("pass", ())
    return report


class Convolutional(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="convolutional")
        self.first = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")

    def call(self, x: Any) -> Any:
        return self.first(x)


class Matched(keras.Model):
    """The names of its arguments are what some libraries refuse: a built-in of Python, and an upper case letter."""

    def __init__(self) -> None:
        super().__init__(name="matched")
        self.convolution, self.dense = layers.Conv2D(4, 3), layers.Dense(3)

    def call(self, Image: Any, type: Any) -> Any:
        y = self.dense(ops.mean(self.convolution(Image), (1, 2)) + type)
        return {"class": y, "import": y > 0}


class Tokens(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="tokens")
        self.words, self.places = layers.Embedding(50, 6), layers.Embedding(12, 6)
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(ops.mean(self.words(x) + self.places(ops.arange(ops.shape(x)[1])), 1))


def test_what_a_model_was_called_with_is_no_bound(tmp_path: Path) -> None:
    model = Convolutional()
    model(np.zeros((1, 8, 8, 3), np.float32))
    report = proven(model, tmp_path / "any", input_shape=(None, None, 3), dynamic_size={"H": 12, "W": 16})
    assert {row.subject for row in report.rows} >= ALL
    assert all(spec.shape == (None, None, None, 3) for each in report.artifacts for spec in each.inputs)
    assert not report.warnings


def test_several_arguments_by_name(tmp_path: Path) -> None:
    report = proven(Matched(), tmp_path / "pair", input_shape={"Image": (9, 8, 3), "type": (4,)})
    assert {row.subject for row in report.rows} >= ALL
    for artifact in report.artifacts:
        assert {spec.name for spec in artifact.inputs} == {"Image", "type"}
        assert {spec.name for spec in artifact.outputs} == {"class", "import"}


def test_a_sequence_bounded_by_its_positions(tmp_path: Path) -> None:
    report = proven(Tokens(), tmp_path / "tokens", input_shape=(None,), formats="onnx")
    assert {str(spec.dtype) for each in report.artifacts for spec in each.inputs} == {"int32"}


def test_text_is_proven_as_a_saved_model(tmp_path: Path) -> None:
    x = keras.Input((3,), dtype="string", name="words")
    ids = layers.StringLookup(vocabulary=["a", "b", "c"], name="lookup")(x)
    model = keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.Embedding(4, 5)(ids))))
    report = proven(model, tmp_path / "text")
    assert [each.format for each in report.artifacts] == ["saved-model"]
    assert [each.partition(":")[0] for each in report.failures] == ["onnx", "tflite"]
    assert all("lookup (StringLookup)" in each for each in report.failures)
    assert converter.verify(tmp_path / "text").verdict == "pass"


def test_a_library_that_fails_costs_the_other_formats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> Any:
        raise KeyError("not a name that it knows")

    monkeypatch.setitem(FORMATS, "tflite", Format("tflite", "model.tflite", write))
    model = Convolutional()
    model(np.zeros((1, 8, 8, 3), np.float32))
    report = proven(model, tmp_path / "two", formats="tflite,saved-model")
    assert [each.format for each in report.artifacts] == ["saved-model"]
    assert report.failures[0].startswith("tflite: cannot be written: KeyError")
    with pytest.raises(KeyError):
        converter.export(model, output=tmp_path / "none", samples=3, formats="tflite")


def test_half_precision_of_any_size_and_few_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Effort, "exact", lambda effort, *others: 1)  # as where an inference takes long
    x = keras.Input((None, None, 3), name="image")
    convolution = layers.Conv2D(4, 3, name="convolution", dtype="mixed_float16")
    sizes = {"H": 12, "W": 16}
    proven(keras.Model(x, convolution(x)), tmp_path / "half", dynamic_size=sizes, formats="onnx")
