"""The seeded inputs: reproducible, in range, and clearly different from each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from converter.core.data import TensorSpec
from converter.core.errors import UsageError
from converter.core.samples import generate, reverse_channels

IMAGE = TensorSpec("image", (None, 32, 40, 3), layout="nhwc")


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = (generate([IMAGE], 4, seed)["image"] for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    assert not np.allclose(first, other, atol=0.05)


def test_a_stream_depends_on_its_own_name_only():
    second = TensorSpec("second", (None, 5))
    alone = generate([IMAGE], 2, 1)["image"]
    assert np.array_equal(alone, generate([second, IMAGE], 2, 1)["image"])
    renamed = TensorSpec("other", IMAGE.shape, layout="nhwc")
    assert not np.allclose(alone, generate([renamed], 2, 1)["other"], atol=0.05)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((None, 32, 40, 3), "nhwc"),
        ((None, 3, 32, 40), "nchw"),
        ((None, 50, 4), ""),
        ((None, 8, 9, 10, 2), "nhwc"),
        ((None, 2, 8, 9, 10), "nchw"),
        ((4, 17), ""),
        ((None, 1, 1, 1), "nhwc"),
        ((None,), ""),
        ((None, 2, 2, 2, 2, 2), ""),
    ],
)
def test_shape_dtype_and_range(shape, layout):
    array = generate([TensorSpec("x", shape, layout=layout)], 3, 0, ranges={"x": (-2.0, 5.0)})["x"]
    assert array.shape == (3, *shape[1:])
    assert array.dtype == np.float32
    assert array.min() >= -2.0
    assert array.max() <= 5.0
    assert array.flags.c_contiguous
    if array.size > 20:
        assert np.ptp(array) > 2.0


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_samples_and_channels_differ_clearly(layout):
    shape = (None, 64, 64, 3) if layout == "nhwc" else (None, 3, 64, 64)
    images = generate([TensorSpec("x", shape, layout=layout)], 8, 3)["x"]
    if layout == "nchw":
        images = np.moveaxis(images, 1, -1)
    for one, other in itertools.combinations(images, 2):
        assert np.abs(one - other).mean() > 0.08
    for image in images:
        for one, other in itertools.combinations(np.moveaxis(image, -1, 0), 2):
            assert np.abs(one - other).mean() > 0.05


def test_images_are_smooth_but_not_flat():
    images = generate([IMAGE], 8, 5)["image"]
    step = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3))
    spread = images.std(axis=(1, 2))
    assert np.all(step < 0.1)
    assert np.all(spread > 0.05)


def test_dynamic_axes_take_sizes_or_defaults():
    spec = TensorSpec("x", (None, None, None, 3), layout="nhwc")
    assert generate([spec], 1, 0)["x"].shape == (1, 224, 224, 3)
    assert generate([spec], 1, 0, sizes={"x": (20, 30, 3)})["x"].shape == (1, 20, 30, 3)
    assert generate([TensorSpec("x", (None, None))], 1, 0)["x"].shape == (1, 16)
    first = TensorSpec("x", (None, None, 9, 9), layout="nchw")
    assert generate([first], 1, 0)["x"].shape == (1, 3, 9, 9)


def test_integers_cover_their_range():
    pixels = generate([TensorSpec("x", (None, 64, 64, 3), "uint8", "nhwc")], 8, 0)["x"]
    assert pixels.dtype == np.uint8
    assert pixels.min() < 20
    assert pixels.max() > 235
    tokens = generate([TensorSpec("x", (None, 500), "int32")], 2, 0, ranges={"x": (-1, 3)})["x"]
    assert tokens.dtype == np.int32
    assert set(np.unique(tokens)) == {-1, 0, 1, 2, 3}
    wide = generate([TensorSpec("x", (None, 50), "int64")], 2, 0, ranges={"x": (0, 2**63 - 1)})["x"]
    assert wide.min() >= 0
    flags = generate([TensorSpec("x", (None, 50), "bool")], 2, 0)["x"]
    assert flags.dtype == np.bool_
    assert flags.any()
    assert not flags.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"seed": -1}, "negative"),
        ({"ranges": {"image": (1.0, 1.0)}}, "empty"),
        ({"ranges": {"image": (0.0, float("nan"))}}, "empty"),
        ({"ranges": {"image": (0.0, 1e300)}}, "float32"),
        ({"ranges": {"picture": (0.0, 1.0)}}, "no input is called 'picture'"),
        ({"sizes": {"image": (32, 41, 3)}}, "does not fit"),
        ({"sizes": {"image": (32, 40)}}, "does not fit"),
        ({"specs": [TensorSpec("x", (None, 4), "int8")], "ranges": {"x": (0, 300)}}, "int8"),
        ({"specs": [TensorSpec("x", (None, 4), "string")]}, "dtype string"),
        ({"specs": [TensorSpec("x", (None, 4), "bfloat99")]}, "bfloat99"),
    ],
)
def test_bad_requests_are_usage_errors_of_one_line(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        generate(**{"specs": [IMAGE], "count": 2, "seed": 0, **change})
    assert "\n" not in str(caught.value)


def test_channels_are_reversed_on_their_axis_only():
    specs = [IMAGE, TensorSpec("first", (None, 3, 4, 5), layout="nchw"), TensorSpec("grey", (None, 6, 6, 1))]
    inputs = generate(specs, 2, 0)
    changed = reverse_channels(inputs, specs)
    assert changed is not None
    assert np.array_equal(changed["image"], inputs["image"][..., ::-1])
    assert np.array_equal(changed["first"], inputs["first"][:, ::-1])
    assert np.array_equal(changed["grey"], inputs["grey"])
    assert reverse_channels({"grey": inputs["grey"]}, specs[2:]) is None
    flat = TensorSpec("x", (None, 5))
    assert reverse_channels(generate([flat], 2, 0), [flat]) is None
