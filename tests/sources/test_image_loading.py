"""This package's images against Keras's own: the same file becomes the same input, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from pictures import photograph

from converter.data.preprocessing import INTERPOLATIONS, Resize, named
from converter.data.reading import input_of, read_picture
from converter.sources.image_loading import keras_input


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_modes_of_keras(mode: str) -> None:
    import keras

    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    own = named(mode).apply(pixels)
    values = keras.utils.img_to_array(pixels, dtype="float32")[None]
    from keras.src.applications.imagenet_utils import preprocess_input

    assert np.array_equal(own, preprocess_input(values.copy(), mode=mode)[0])


@pytest.mark.parametrize("family", ["resnet50", "mobilenet_v2", "densenet", "vgg16", "xception", "efficientnet"])
def test_families_of_keras(family: str) -> None:
    import keras

    mode = {"resnet50": "caffe", "vgg16": "caffe", "densenet": "torch", "efficientnet": "plain"}.get(family, "tf")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    expected = getattr(keras.applications, family).preprocess_input(pixels.astype(np.float32)[None].copy())[0]
    assert np.array_equal(named(mode).apply(pixels), expected)


@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_files(how: str, interpolation: str, channels: str, tmp_path: Path) -> None:
    resize = Resize(how, interpolation, 9)  # type: ignore[arg-type]
    preprocessing = named("tf", channels, resize)  # type: ignore[arg-type]
    for number, (height, width) in enumerate(((40, 60), (61, 33), (24, 24), (5, 3))):
        for name in (f"{number}.png", f"{number}.jpg"):
            photograph(height, width).save(tmp_path / name)
            own = input_of(read_picture(tmp_path / name, preprocessing.channels), preprocessing, (24, 20))
            assert np.array_equal(own, keras_input(tmp_path / name, preprocessing, (24, 20)))
