"""Correct artifacts of unusual models: none is failed, and none is doubted where a better check can decide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converter
from converter.core.errors import InputError, UsageError

BUILDERS: dict[str, Callable[[], Any]] = {}


def builder(function: Callable[[], Any]) -> Callable[[], Any]:
    BUILDERS[function.__name__] = function
    return function


def chain(*layers: Any, shape: tuple[int | None, ...] = (12, 12, 3), **options: Any) -> Any:
    import keras

    x = given = keras.Input(shape, name="given", **options)
    for layer in layers:
        x = layer(x)
    return keras.Model(given, x, name="net")


@builder
def channels_do_not_matter() -> Any:
    from keras import layers

    return chain(layers.MaxPooling2D(name="pool"), layers.ZeroPadding2D(name="pad"))


@builder
def order_does_not_matter() -> Any:
    import keras
    from keras import layers

    one, two = (keras.Input((6, 4), name=name) for name in ("one", "two"))
    return keras.Model([one, two], layers.Dot(axes=2, name="dot")([one, two]), name="net")


@builder
def tokens() -> Any:
    from keras import layers

    parts = (
        layers.Embedding(50, 8, name="table"),
        layers.GlobalAveragePooling1D(name="mean"),
        layers.Dense(3, name="out"),
    )
    return chain(*parts, shape=(12,), dtype="int32")


@builder
def many_activations() -> Any:
    """One of them is zero for every input in [0, 1]."""
    import keras
    from keras import layers

    given = keras.Input((8,), name="given")
    x = layers.Dense(4, name="dense")(given)
    names = ("relu", "relu6", "sigmoid", "tanh", "softplus", "hard_sigmoid", "elu")
    negative = keras.initializers.Constant(-0.3)
    dead = layers.Dense(1, activation="relu", kernel_initializer=negative, name="dead")(given)
    return keras.Model(given, [dead, *(layers.Activation(name, name=f"out_{name}")(x) for name in names)], name="net")


@builder
def differs_by_little() -> Any:
    """Boxes of an untrained detector: 0.5 for every sample, but for 1e-5."""
    import keras
    from keras import layers

    small = keras.initializers.RandomNormal(stddev=1e-4, seed=1)
    half = keras.initializers.Constant(0.5)
    return chain(
        layers.Conv2D(8, 3, strides=2, activation="relu", name="conv"),
        layers.Conv2D(4, 1, kernel_initializer=small, bias_initializer=half, name="boxes"),
    )


@builder
def standardized_weights() -> Any:
    """A scaled filter has no effect: only a change within it has."""
    import keras

    class Standardized(keras.layers.Conv2D):
        def call(self, x: Any) -> Any:
            mean, variance = keras.ops.moments(self.kernel, axes=[0, 1, 2], keepdims=True)
            return keras.ops.conv(x, (self.kernel - mean) / keras.ops.sqrt(variance + 1e-6), padding="valid")

    return chain(Standardized(8, 3, use_bias=False, name="conv"), keras.layers.GlobalAveragePooling2D(name="mean"))


@builder
def classes_as_integers() -> Any:
    import keras
    import tensorflow as tf

    class Class(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.argmax(x, axis=-1, output_type=tf.int32)

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape[:-1], dtype="int32")

    return chain(keras.layers.Conv2D(5, 3, name="conv"), Class(name="label"))


@builder
def a_mask_of_booleans() -> Any:
    import keras

    class Positive(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x > 0

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape, dtype="bool")

    return chain(keras.layers.Conv2D(5, 3, name="conv"), Positive(name="mask"))


@builder
def another_shape_than_declared() -> Any:
    import keras

    class Gated(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            one, two = keras.ops.split(x, 2, axis=-1)
            return one * keras.ops.sigmoid(two)

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape, dtype=x.dtype)

    return chain(keras.layers.Conv2D(8, 3, name="conv"), Gated(name="gated"))


@builder
def a_fixed_batch() -> Any:
    import keras
    from keras import layers

    given = keras.Input(batch_shape=(4, 12, 12, 3), name="given")
    return keras.Model(given, layers.Dense(3, name="out")(layers.Flatten(name="flat")(given)), name="net")


@builder
def boxes_beside_scores() -> Any:
    """A runtime's sigmoid rounds like a number near 0.5, which is 3e-5 of a score of 0.002."""
    import keras
    from keras import layers

    given = keras.Input((12, 12, 3), name="given")
    x = layers.Flatten(name="flat")(layers.Conv2D(4, 3, activation="relu", name="conv")(given))
    boxes = layers.Rescaling(640.0, name="pixels")(layers.Dense(4, activation="sigmoid", name="boxes")(x))
    low = keras.initializers.Constant(-6.0)
    scores = layers.Dense(3, activation="sigmoid", bias_initializer=low, name="scores")(x)
    return keras.Model(given, layers.Concatenate(name="joined")([boxes, scores]), name="net")


@builder
def a_long_sum() -> Any:
    """The mean over a large map: LiteRT adds one element after the other, which rounds ten times more."""
    from keras import layers

    parts = layers.Conv2D(4, 3, padding="same", name="conv"), layers.GlobalAveragePooling2D(name="mean")
    return chain(*parts, shape=(160, 160, 3))


@builder
def a_distance() -> Any:
    """Of two images that one network reads: where they are close, what a sum of 256 rounds is all that is left.

    With AVX-512, onnxruntime adds the 256 values of a pooled map one after the other.
    """
    import keras
    from keras import layers, ops

    one, two, given = (keras.Input((32, 32, 3), name=name) for name in ("one", "two", "given"))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="conv")(given)
    inner = keras.Model(given, layers.Dense(8, name="out")(layers.GlobalAveragePooling2D(name="mean")(x)), name="inner")
    gap = layers.Subtract(name="gap")([inner(one), inner(two)])
    root = layers.Lambda(lambda z: ops.sqrt(ops.sum(z * z, -1, keepdims=True)), output_shape=(1,), name="root")
    return keras.Model([one, two], root(gap), name="net")


@pytest.mark.parametrize("name", BUILDERS)
def test_a_correct_artifact_passes(name: str, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    formats = "onnx,tflite" if name in ("a_long_sum", "boxes_beside_scores") else "onnx"
    report = converter.export(BUILDERS[name](), output=tmp_path / "out", formats=formats)
    assert (report.verdict, report.exit_code) == ("pass", 0), report.reasons
    assert report.tolerances
    assert all(each.noise is not None for each in report.tolerances.values())
    again = converter.verify(tmp_path / "out", runtimes="onnxruntime")
    assert again.verdict == "pass", again.reasons
    assert again.tolerances == report.tolerances


def test_samples_that_are_mixed_are_named(tmp_path: Path) -> None:
    import keras

    class Centred(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x - keras.ops.mean(x, axis=0, keepdims=True)

    keras.utils.set_random_seed(0)
    model = chain(keras.layers.Conv2D(4, 3, name="conv"), Centred(name="centred"))
    report = converter.export(model, output=tmp_path / "out", formats="onnx")
    assert report.verdict == "pass", report.reasons
    assert any("mixes the samples of a batch" in warning for warning in report.warnings)
    assert report.rows[-1].facts["batches"] == [8]
    assert converter.verify(tmp_path / "out").verdict == "pass"


def test_a_control_that_keras_answers_alike_is_not_applicable(tmp_path: Path) -> None:
    report = converter.export(BUILDERS["channels_do_not_matter"](), output=tmp_path / "out", formats="onnx")
    controls = {each.name: each for each in report.controls}
    assert all(each.detected for each in controls.values() if each.applicable)
    assert {"another-sample", "channels-reversed", "channels-exchanged"} <= set(controls)


def test_an_output_without_the_batch_is_named(tmp_path: Path) -> None:
    import keras

    class Total(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.sum(x)

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor((), dtype="float32")

    model = chain(keras.layers.Conv2D(4, 3, name="conv"), Total(name="total"))
    with pytest.raises(InputError, match=r"output total has shape|Keras cannot run the model"):
        converter.export(model, output=tmp_path / "out", formats="onnx")


def test_the_inputs_of_the_user(tmp_path: Path) -> None:
    model = BUILDERS["classes_as_integers"]()
    images = np.random.default_rng(3).uniform(-1, 1, (5, 12, 12, 3)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", given=images)
    report = converter.export(model, output=tmp_path / "out", formats="onnx", inputs=tmp_path / "mine.npz")
    assert report.verdict == "pass", report.reasons
    assert report.rows[-1].samples == 5
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert np.array_equal(golden["input/given"], images)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"given": np.zeros((3, 12, 12, 3), np.float32)}, "samples 0 and 1 are equal"),
        ({"given": np.zeros((1, 12, 12, 3), np.float32)}, "at least two samples"),
        ({"given": np.zeros((2, 9, 12, 3), np.float32)}, "expected samples x 12x12x3"),
        ({"given": np.full((2, 12, 12, 3), np.nan, np.float32)}, "NaN"),
        ({"image": np.zeros((2, 12, 12, 3)), "other": np.zeros(2)}, "the inputs of the model are given"),
    ],
)
def test_inputs_that_do_not_fit(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InputError, match=words):
        converter.export(
            BUILDERS["channels_do_not_matter"](), output=tmp_path / "out", formats="onnx", inputs=tmp_path / "mine.npz"
        )
    assert not (tmp_path / "out").exists()


def test_a_range_of_the_user_is_kept(tmp_path: Path) -> None:
    report = converter.export(
        BUILDERS["a_long_sum"](), output=tmp_path / "out", formats="onnx", range=(2, 5), samples=3
    )
    assert report.verdict == "pass", report.reasons
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert 2 <= golden["input/given"].min() < 2.5
        assert 4.5 < golden["input/given"].max() <= 5


@pytest.mark.parametrize(
    "wrong",
    [{"range": (3, 3)}, {"range": "0:1"}, {"dynamic_size": {"H": 0}}, {"dynamic_size": {"H": 8}}, {"budget": 0}],
)
def test_wrong_statements_about_inputs(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        converter.export(BUILDERS["channels_do_not_matter"](), output=tmp_path / "out", formats="onnx", **wrong)
