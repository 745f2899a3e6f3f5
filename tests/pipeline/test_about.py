"""Which preprocessing and labels an export has: those of the user, of the source, or of ImageNet."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from converter.core.data import Source, TensorSpec
from converter.data.labels import imagenet_labels
from converter.data.preprocessing import named
from converter.pipeline.about import about, described


def signature(classes: int) -> Any:
    return SimpleNamespace(outputs=(TensorSpec("predictions", (None, classes), activation="softmax"),))


@pytest.mark.parametrize(
    ("kind", "classes", "untrained", "expected"),
    [
        ("keras", 1000, False, imagenet_labels()),
        ("zoo", 1000, False, imagenet_labels()),
        ("keras", 1000, True, ()),
        ("keras", 10, False, ()),
        ("file", 1000, False, ()),
    ],
)
def test_the_labels_of_imagenet_are_for_its_weights(
    kind: str, classes: int, untrained: bool, expected: tuple[str, ...]
) -> None:
    source = Source(None, "model", kind, untrained=untrained)
    assert described(source, signature(classes), None, None).labels == expected


def test_the_user_outranks_the_source(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("x\ny\n")
    source = Source(None, "model", "file", preprocessing=named("tf").to_json(), labels=("a", "b"))
    kept = described(source, signature(2), None, None)
    assert (kept.labels, kept.preprocessing["mode"]) == (("a", "b"), "tf")
    changed = described(source, signature(2), "torch", str(tmp_path / "labels.txt"))
    assert (changed.labels, changed.preprocessing["mode"]) == (("x", "y"), "torch")
    assert about(changed) == {"preprocessing": changed.preprocessing, "labels": ["x", "y"]}


@pytest.mark.parametrize(
    ("name", "mode"),
    [("ResNet50", "caffe"), ("MobileNetV2", "tf"), ("DenseNet121", "torch"), ("EfficientNetB0", "plain")],
)
def test_families_of_keras_have_their_mode(name: str, mode: str) -> None:
    """What is measured on `preprocess_input` is recognized, so that it is applied in Keras's own order."""
    import keras

    from converter.sources.applications import preprocessing_of

    facts = preprocessing_of(getattr(keras.applications, name), {})
    source = Source(None, name, "keras", preprocessing=facts, untrained=True)
    found = described(source, signature(1000), None, None).preprocessing
    assert found["mode"] == mode
    assert {key: found[key] for key in facts} == facts
    assert json.dumps(found)
