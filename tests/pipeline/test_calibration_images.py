"""Images that calibrate int8: loaded as the model takes them, the training part alone, and none that is evaluated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converter.core.data import Interface, TensorSpec
from converter.core.errors import UsageError
from converter.data.feed import Feed
from converter.data.fingerprint import DIGITS, array_hash, digests_of, fingerprint
from converter.data.preprocessing import named
from converter.data.samples import load_samples
from converter.data.split import split
from converter.pipeline.calibration_images import has_images, image_samples
from converter.pipeline.evaluation_parts import refuse_calibrating
from converter.pipeline.facts import ModelFacts

UNIT = named("unit")


def facts(source: dict[str, Any] | None = None, size: int | None = 6, known: bool = True) -> ModelFacts:
    image = TensorSpec("image", (None, size, size, 3), "float32", "nhwc")
    interface = Interface((image,), (TensorSpec("scores", (None, 2), "float32", ""),))
    return ModelFacts("model", source or {}, interface, preprocessing=UNIT.to_json() if known else {})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two class folders of twelve images each."""
    drawn = np.random.default_rng(0).integers(0, 256, (24, 9, 8, 3), np.uint8)
    for index, pixels in enumerate(drawn):
        folder = tmp_path / "data" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return tmp_path / "data"


def test_folders_of_images_and_of_arrays_are_told_apart(pictures: Path, tmp_path: Path) -> None:
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    np.save(arrays / "one.npy", np.zeros(3))
    assert [has_images(each) for each in (pictures, pictures / "a", arrays, tmp_path / "none")] == [
        True,
        True,
        False,
        False,
    ]
    assert has_images(Path("mnist"))


def test_images_become_inputs_by_the_preprocessing(pictures: Path) -> None:
    found = image_samples(pictures / "a", facts())["image"]
    assert (found.shape, found.dtype) == ((12, 6, 6, 3), np.float32)
    with Image.open(pictures / "a" / "00.png") as image:
        pixels = np.asarray(image.resize((6, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found[0], UNIT.apply(pixels))
    assert len(image_samples(pictures, facts())["image"]) == 24


def test_only_the_training_part_of_the_models_own_data_calibrates(pictures: Path) -> None:
    samples = load_samples(str(pictures))
    digests = digests_of(samples)
    training = {"fingerprint": fingerprint(samples, digests), "shares": [0.2, 0.2], "seed": 3}
    parts = split(samples.labels, digests, validation=0.2, test=0.2, seed=3)
    found = image_samples(pictures, facts({"training": training}))["image"]
    assert len(found) == len(parts.train) < 24
    wanted = samples.pixels(int(parts.train[0]), "rgb", (6, 6), UNIT.resize)
    np.testing.assert_array_equal(found[0], UNIT.apply(wanted))


@pytest.mark.parametrize(
    ("arguments", "words"), [({"size": None}, "known size"), ({"known": False}, "--preprocessing")]
)
def test_a_model_whose_images_are_not_known_is_refused(arguments: dict[str, Any], words: str, pictures: Path) -> None:
    with pytest.raises(UsageError, match=words):
        image_samples(pictures, facts(**arguments))


def test_images_that_calibrated_are_not_evaluated(pictures: Path) -> None:
    samples = load_samples(str(pictures))
    feed = Feed(samples, np.arange(24), samples.labels, UNIT, (6, 6))
    known = {"image": image_samples(pictures / "a", facts())["image"]}
    hashes = [array_hash(known, index)[:DIGITS] for index in range(5)]

    def subject(options: dict[str, Any]) -> Any:
        return SimpleNamespace(artifact=SimpleNamespace(options=options, path="model.int8.onnx"))

    refuse_calibrating([subject({}), subject({"quantization": {"sample_hashes": ["0" * DIGITS]}})], feed)
    with pytest.raises(UsageError, match=r"5 of 24 images calibrated model\.int8\.onnx"):
        refuse_calibrating([subject({"quantization": {"sample_hashes": hashes}})], feed)
