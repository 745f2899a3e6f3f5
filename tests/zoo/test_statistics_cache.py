"""The cache of what a calibration measures: the same weights with it and without it, whatever the file holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from zoo import calibrate as calibration
from zoo import drawing, statistics_cache

Weights = list[np.ndarray]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory that is in use."""
    monkeypatch.delenv(statistics_cache.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = statistics_cache.directory()
    assert found is not None
    return found


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each forward pass of a calibration."""
    counted: list[int] = []
    measure = calibration._measure
    monkeypatch.setattr(calibration, "_measure", lambda *given: counted.append(1) or measure(*given))
    return counted


def net(units: int = 8, dtype: str = "float32") -> keras.Model:
    image = keras.Input((12, 12, 4), name="image")
    x = layers.Conv2D(8, 3, groups=2, activation="relu", name="conv", dtype=dtype)(image)
    x = layers.BatchNormalization(name="bn", dtype=dtype)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise", dtype=dtype)(x)
    x = layers.SeparableConv2D(units, 3, name="separable", dtype=dtype)(x)
    x = layers.Conv2DTranspose(6, 3, name="transposed", dtype=dtype)(x)
    x = layers.PReLU(name="prelu", dtype=dtype)(x)
    x = layers.GlobalAveragePooling2D(name="pool", dtype=dtype)(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head", dtype=dtype)(x), name="net")


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((8, 12, 12, 4), dtype=np.float32)


def weights(
    model: keras.Model, run: Callable[..., None] = calibration.calibrate_again, data: int = 0, seed: int = 0
) -> Weights:
    run(model, images(data), seed)
    return [np.asarray(weight.numpy()) for weight in model.weights]


def equal(one: Weights, other: Weights) -> bool:
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_same_weights_bit_for_bit_without_a_forward_pass(place: Path, passes: list[int], dtype: str) -> None:
    plain = weights(net(dtype=dtype), calibration.calibrate)
    assert equal(weights(net(dtype=dtype)), plain)
    assert len(passes) == 2
    assert equal(weights(net(dtype=dtype)), plain)
    assert len(passes) == 2
    (file,) = place.iterdir()
    assert file.stat().st_size < 20_000


def test_another_model_other_inputs_and_another_seed_are_measured(place: Path, passes: list[int]) -> None:
    weights(net())
    for given in ({"model": net(units=10)}, {"model": net(), "data": 1}, {"model": net(), "seed": 1}):
        expected = [*passes, 1]
        weights(**given)  # type: ignore[arg-type]
        assert passes == expected
    assert len(list(place.iterdir())) == 4


def test_a_layer_that_is_not_of_keras_is_never_looked_up(place: Path, passes: list[int]) -> None:
    class Own(layers.Layer):
        def call(self, x: object) -> object:
            return x

    for layer in (Own(name="own"), layers.Lambda(lambda x: x, name="own")):
        image = keras.Input((12, 12, 4), name="image")
        model = keras.Model(image, layers.Conv2D(2, 3, name="conv")(layer(image)), name="own_net")
        weights(model)
    assert len(passes) == 2
    assert not place.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "moments of another layer", "infinite", "a directory"])
def test_a_file_that_is_damaged_is_measured_again(damage: str, place: Path, passes: list[int]) -> None:
    plain = weights(net())
    (file,) = place.iterdir()
    data = file.read_bytes()
    if damage == "moments of another layer":
        statistics_cache.write(file.stem, {1: (np.ones(3), np.ones(3))})
    elif damage == "infinite":
        statistics_cache.write(file.stem, {1: (np.full(8, np.inf), np.ones(8))})
    elif damage == "a directory":
        file.unlink()
        file.mkdir()
    else:
        changed = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
        file.write_bytes({"empty": b"", "cut": data[:100], "changed": changed}[damage])
    assert equal(weights(net()), plain)
    assert len(passes) == 2


def test_off_by_the_environment(place: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(statistics_cache.VARIABLE, "OFF")
    weights(net())
    weights(net())
    assert len(passes) == 2
    assert not place.exists()


def test_a_directory_that_cannot_be_made(tmp_path: Path, place: Path, passes: list[int]) -> None:
    tmp_path.joinpath("cnnexport").write_text("a file", encoding="ascii")
    assert equal(weights(net()), weights(net()))
    assert len(passes) == 2


def test_the_oldest_files_are_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_cache, "MOST", 2)
    for age, name in enumerate("abc"):
        statistics_cache.write(name, {0: (np.zeros(1), np.ones(1))})
        os.utime(place / f"{name}.moments", (1e9 + age, 1e9 + age))
    statistics_cache.write("d", {0: (np.zeros(1), np.ones(1))})
    assert sorted(path.stem for path in place.iterdir()) == ["c", "d"]
    assert statistics_cache.read("a") is None
    assert statistics_cache.read("d") is not None


def test_drawn_values_are_shared_with_the_variable_and_are_those_of_the_generator() -> None:
    """TensorFlow copies an array twice otherwise: 400 MB of VGG-16."""
    values = drawing.normal(np.random.default_rng(7), (33, 5))
    assert np.array_equal(values, np.random.default_rng(7).standard_normal((33, 5), np.float32) * np.float32(33**-0.5))
    tensor = drawing.shared(values)
    assert np.asarray(memoryview(tensor)).ctypes.data == values.ctypes.data
    odd = values.reshape(-1)[1:]
    assert drawing.shared(odd) is odd
