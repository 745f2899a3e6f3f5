"""Modes, JSON and the arithmetic of the preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from converter.core.errors import InputError, UsageError
from converter.data.preprocessing import MODES, Preprocessing, Resize, from_json, given, named, of_model
from zoo import MODELS

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_survives_json(mode: str) -> None:
    own = named(mode, resize=Resize("pad", "bicubic", 3))
    again = from_json(json.loads(json.dumps(own.to_json())), "here")
    assert again == own
    assert np.array_equal(again.apply(PIXELS), own.apply(PIXELS))


def test_the_order_of_the_channels() -> None:
    values = named("caffe").apply(PIXELS)
    assert values.dtype == np.float32
    assert np.allclose(values[..., 0], PIXELS[..., 2] - 103.939, atol=1e-4)
    assert np.array_equal(named("caffe", "rgb").apply(PIXELS), values[..., ::-1])
    assert np.array_equal(named("torch", "bgr").apply(PIXELS), named("torch").apply(PIXELS)[..., ::-1])


@pytest.mark.parametrize("name", list(MODELS))
def test_the_zoo_is_understood(name: str) -> None:
    """The numbers of the zoo are those of a mode, whose arithmetic is exact."""
    facts = MODELS[name].preprocessing
    found = of_model(facts, name)
    assert found is not None
    assert found.mode in ("unit", "caffe", "tf")
    assert found.span == pytest.approx(facts["range"], abs=1e-3)
    count = 1 if found.channels == "gray" else 3
    ordered = PIXELS[..., ::-1] if found.channels == "bgr" else PIXELS[..., :count]
    expected = ordered * np.float64(facts["scale"]) - np.asarray(facts["mean"])
    assert np.allclose(found.apply(PIXELS[..., :count]), expected, atol=1e-4)


def test_a_range_alone_is_no_preprocessing() -> None:
    assert of_model({"range": [0.0, 1.0]}, "here") is None
    assert of_model({}, "here") is None


def test_a_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"channels": "rgb", "scale": 0.5, "mean": [1, 2, 3], "std": 2}))
    found = given(str(path), {})
    assert np.allclose(found.apply(PIXELS), (PIXELS * 0.5 - [1, 2, 3]) / 2)
    assert from_json(found.to_json(), "here") == found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected an object"),
        ("{", "not readable as JSON"),
        ('{"channels": "cmyk"}', "rgb or bgr or gray"),
        ('{"mode": "magic"}', "caffe or tf"),
        ('{"scale": [1, 2]}', "a number, or 3 numbers"),
        ('{"scale": 0}', "other than 0"),
        ('{"scale": "x"}', "a number"),
        ('{"resize": {"how": "fold"}}', "stretch or crop or pad"),
        ('{"resize": {"interpolation": "magic"}}', "bilinear"),
        ('{"resize": {"fill": 300}}', "0 to 255"),
        ('{"mode": "caffe", "channels": "gray"}', "three channels"),
    ],
)
def test_a_wrong_file(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        given(str(path), {})
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unknown_mode() -> None:
    with pytest.raises(UsageError, match="choose from caffe, tf, torch, plain, unit"):
        given("magic", {})
    with pytest.raises(UsageError, match="three channels"):
        given("torch", {"channels": "gray"})


def test_spans() -> None:
    assert named("tf").span == (-1.0, 1.0)
    assert named("plain").span == (0.0, 255.0)
    low, high = named("caffe").span
    assert (low, high) == pytest.approx((-123.68, 151.061))
    assert isinstance(named("unit"), Preprocessing)
