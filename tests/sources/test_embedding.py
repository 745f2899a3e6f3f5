"""The preprocessing as a part of a model: equal to Pillow for every way of resizing, in Keras and in the artifacts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from pictures import photograph

from converter.core.errors import ConversionError, UsageError
from converter.data.preprocessing import Preprocessing, Resize, named
from converter.data.reading import Picture, input_of

SIZES = ((40, 60), (61, 33), (24, 20), (5, 3), (1, 1), (7, 190))


@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_the_layer_equals_pillow(how: str, interpolation: str, channels: str) -> None:
    from converter.sources.embedded_layer import Preprocess

    preprocessing = named("plain", channels, Resize(how, interpolation, 9))  # type: ignore[arg-type]
    layer = Preprocess(preprocessing, (24, 20), "preprocess")
    for number, (height, width) in enumerate(SIZES):
        image = photograph(height, width, seed=number)
        own = input_of(Picture(image.convert("L" if channels == "gray" else "RGB")), preprocessing, (24, 20))
        assert np.array_equal(np.asarray(layer(np.asarray(image)[None]))[0], own), (height, width)


CUSTOM = Preprocessing("custom", "bgr", (0.5, 0.25, 2.0), (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("preprocessing", [named(mode) for mode in ("caffe", "tf", "torch", "unit")] + [CUSTOM])
def test_the_arithmetic_is_that_of_the_mode(preprocessing: Preprocessing) -> None:
    from converter.sources.embedded_layer import Preprocess

    image = photograph()
    own = input_of(Picture(image), preprocessing, (24, 20))
    found = np.asarray(Preprocess(preprocessing, (24, 20), "preprocess")(np.asarray(image)[None]))[0]
    assert np.allclose(found, own, rtol=0, atol=1e-6 * np.abs(own).max())


def test_a_wrong_resize_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.sources import embedded_layer, embedding

    monkeypatch.setattr(embedded_layer, "BITS", 2.0**6)
    layer = embedded_layer.Preprocess(named("unit"), (24, 20), "preprocess")
    with pytest.raises(ConversionError, match="differs from Pillow's"):
        embedding._prove(layer, named("unit"), (24, 20))


def test_an_export_takes_pictures(tmp_path: Path, nets: Path, cnnexport: Callable[..., Any]) -> None:
    """The artifact with the preprocessing inside says of a file what the other one says."""
    import converter

    options = ("--preprocessing", "torch", "--seed", "3", "-q")
    assert cnnexport("tiny_nets:two_heads", "-o", "plain", "-f", "onnx", *options).code == 0
    done = cnnexport("tiny_nets:two_heads", "-o", "inside", "--embed-preprocessing", *options)
    assert done.code == 0, done.stderr + done.stdout
    for number, (height, width) in enumerate(SIZES):
        photograph(height, width, seed=number).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.glob("*.png"))
    expected = converter.predict("plain", files)
    for runtime in ("onnxruntime", "tensorflow"):
        found = converter.predict("inside", files, runtime=runtime)
        for one, other in zip(found.predictions, expected.predictions, strict=True):
            assert [each.index for each in one.top] == [each.index for each in other.top]
            probabilities = ([each.probability for each in result.top] for result in (one, other))
            assert np.allclose(*probabilities, rtol=0, atol=1e-5)
    assert not Path("inside", "model.tflite").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preprocessing", "tf", "-f", "tflite"), "TFLite has no arithmetic in float64"),
        ((), "how an image becomes its input is not known"),
        (("--preprocessing", "{file}"), "is not written into graphs"),
    ],
)
def test_what_cannot_be_embedded(
    options: tuple[str, ...], words: str, tmp_path: Path, cnnexport: Callable[..., Any]
) -> None:
    file = tmp_path / "own.json"
    file.write_text('{"mode": "tf", "resize": {"interpolation": "lanczos"}}')
    outcome = cnnexport(
        "tiny_nets:two_heads", "--embed-preprocessing", "-q", *(each.format(file=file) for each in options)
    )
    assert (outcome.code, outcome.stdout) == (2, "")
    assert words in outcome.stderr


def test_a_model_of_any_size_has_no_size_to_resize_to(nets: Path) -> None:
    import keras

    import converter

    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    with pytest.raises(UsageError, match="not one image of a fixed size"):
        converter.export(model, embed_preprocessing=True, preprocessing="tf", output="unused")
