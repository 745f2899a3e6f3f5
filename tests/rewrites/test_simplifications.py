"""Folding, removal and merging: either exact, or declined with the reason."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from grouped_models import applied, gap, grouped_model, kinds, numbers, randomize, reasons, sample
from keras import layers

from converter.core.foreign import Given, KerasLayer, KerasModel, KerasTensor
from converter.rewrites import REWRITES, SIMPLIFICATIONS, rewrite
from converter.rewrites.zero_padding import same_padding

FOLDED = [
    (layers.Conv1D, {"filters": 3, "kernel_size": 3}, (9, 4)),
    (layers.Conv2D, {"filters": 3, "kernel_size": 3, "use_bias": False}, (9, 9, 4)),
    (layers.Conv2D, {"filters": 6, "kernel_size": 3, "groups": 2}, (9, 9, 4)),
    (layers.Conv3D, {"filters": 3, "kernel_size": 2}, (5, 5, 5, 4)),
    (layers.Conv1DTranspose, {"filters": 3, "kernel_size": 3}, (9, 4)),
    (layers.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "strides": 2, "use_bias": False}, (9, 9, 4)),
    (layers.Conv3DTranspose, {"filters": 3, "kernel_size": 2}, (5, 5, 5, 4)),
    (layers.DepthwiseConv1D, {"kernel_size": 3, "depth_multiplier": 2}, (9, 4)),
    (layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2, "use_bias": False}, (9, 9, 4)),
    (layers.SeparableConv1D, {"filters": 3, "kernel_size": 3}, (9, 4)),
    (layers.SeparableConv2D, {"filters": 3, "kernel_size": 3, "use_bias": False}, (9, 9, 4)),
    (layers.Dense, {"units": 3, "use_bias": False}, (4,)),
    (layers.Dense, {"units": 3}, (9, 4)),
]


@pytest.mark.parametrize(("kind", "settings", "shape"), FOLDED)
def test_batch_norm_is_folded(kind: type, settings: Given, shape: tuple[int, ...]) -> None:
    inputs = keras.Input(shape)
    x = layers.BatchNormalization(name="norm")(kind(**settings, name="linear")(inputs))
    model = randomize(keras.Model(inputs, layers.ReLU()(x)))
    result = rewrite(model, rules=SIMPLIFICATIONS)
    assert applied(result.results) == [("batch-norm-folding", "linear")], reasons(result.results)
    assert [layer.name for layer in result.model.layers][1:2] == ["linear"]
    assert len(result.model.layers) == 3
    assert gap(result.model, model, sample(model)) <= 2e-6


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"epsilon": 0.5}])
def test_batch_norm_without_gamma_or_beta(settings: Given) -> None:
    model = normalized(**settings)
    result = rewrite(model, rules=SIMPLIFICATIONS)
    assert applied(result.results)
    assert gap(result.model, model, sample(model)) <= 1e-6


def normalized(linear: KerasLayer = None, training: bool | None = None, **settings: object) -> KerasModel:
    inputs = keras.Input((9, 9, 4))
    x = (linear or layers.Conv2D(9, 3, padding="same", name="linear"))(inputs)
    norm = layers.BatchNormalization(name="norm", **settings)
    return randomize(keras.Model(inputs, layers.ReLU()(norm(x, training=training))))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: normalized(layers.Conv2D(9, 3, activation="relu", name="c")), "c has the activation relu"),
        (lambda: normalized(axis=1), "it normalizes axis 1, the channels of linear are axis 3"),
        (lambda: normalized(training=True), "normalizes by the batch"),
        (lambda: two_readers(), "linear has another reader"),
        (lambda: shared(), "linear is shared between calls"),
    ],
)
def test_batch_norm_is_not_folded(model: Callable[[], KerasModel], reason: str) -> None:
    subject = model()
    result = rewrite(subject, rules=SIMPLIFICATIONS)
    assert result.model is subject
    assert any(reason in text for text in reasons(result.results)), result.results


def two_readers() -> KerasModel:
    inputs = keras.Input((9, 9, 4))
    x = layers.Conv2D(4, 3, padding="same", name="linear")(inputs)
    return keras.Model(inputs, layers.Add()([x, layers.BatchNormalization()(x)]))


def shared() -> KerasModel:
    one, two = keras.Input((9, 9, 4)), keras.Input((9, 9, 4))
    linear = layers.Conv2D(4, 3, name="linear")
    return keras.Model([one, two], layers.Add()([layers.BatchNormalization()(linear(x)) for x in (one, two)]))


def test_two_norms_in_a_row_are_both_folded() -> None:
    inputs = keras.Input((9, 9, 4))
    x = layers.Conv2D(4, 3, name="linear")(inputs)
    x = layers.BatchNormalization()(layers.BatchNormalization()(x))
    model = randomize(keras.Model(inputs, layers.ReLU()(x)))
    new = rewrite(model, rules=SIMPLIFICATIONS).model
    assert kinds(new) == ["InputLayer", "Conv2D", "ReLU"]
    assert gap(new, model, sample(model)) <= 1e-6


def test_a_folded_output_keeps_its_name() -> None:
    inputs = keras.Input((9, 9, 4))
    model = randomize(keras.Model(inputs, layers.BatchNormalization(name="out")(layers.Conv2D(2, 3)(inputs))))
    new = rewrite(model, rules=SIMPLIFICATIONS).model
    assert kinds(new) == ["InputLayer", "Conv2D"]
    assert new.output_names == model.output_names == ["out"]


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        layers.AlphaDropout(0.5),
        layers.GaussianDropout(0.5),
        layers.GaussianNoise(0.5),
        layers.ActivityRegularization(0.5),
        layers.Identity(),
        layers.Activation("linear"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_identities_vanish(layer: KerasLayer) -> None:
    inputs = keras.Input((9, 9, 4))
    model = keras.Model(inputs, layers.ReLU()(layer(layers.MaxPooling2D()(inputs))))
    result = rewrite(model, rules=SIMPLIFICATIONS)
    assert applied(result.results) == [("identity-removal", layer.name)]
    assert kinds(result.model) == ["InputLayer", "MaxPooling2D", "ReLU"]
    x = sample(model)
    np.testing.assert_array_equal(numbers(result.model, x)[0], numbers(model, x)[0])


def test_identities_in_a_row_make_way_for_folding() -> None:
    inputs = keras.Input((9, 9, 4))
    x = layers.Conv2D(4, 3, name="linear")(inputs)
    x = layers.Activation("linear")(layers.Dropout(0.5)(x))
    model = randomize(keras.Model(inputs, layers.ReLU()(layers.BatchNormalization()(x))))
    new = rewrite(model, rules=SIMPLIFICATIONS).model
    assert kinds(new) == ["InputLayer", "Conv2D", "ReLU"]
    assert gap(new, model, sample(model)) <= 1e-6


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda x: layers.ReLU()(layers.Dropout(0.5)(x, training=True)), "acts at inference too"),
        (lambda x: layers.Dropout(0.5)(layers.ReLU()(x)), "an output of the model is named after it"),
        (lambda x: layers.ReLU()(layers.Identity(dtype="float16")(x)), "it converts float32 to float16"),
    ],
)
def test_identities_that_stay(build: Callable[[KerasTensor], KerasTensor], reason: str) -> None:
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, build(inputs))
    result = rewrite(model, rules=SIMPLIFICATIONS)
    assert result.model is model
    assert reason in reasons(result.results)[0]


PADDED = [
    ((9, 4), layers.ZeroPadding1D(1), layers.Conv1D(3, 3)),
    ((9, 9, 4), layers.ZeroPadding2D(1), layers.Conv2D(3, 3)),
    ((None, None, 4), layers.ZeroPadding2D((1, 2)), layers.Conv2D(3, (3, 5))),
    ((9, 9, 4), layers.ZeroPadding2D(2), layers.Conv2D(3, 3, dilation_rate=2)),
    ((9, 9, 4), layers.ZeroPadding2D(1), layers.Conv2D(3, 3, strides=2)),
    ((8, 8, 4), layers.ZeroPadding2D(((0, 1), (0, 1))), layers.DepthwiseConv2D(3, strides=2)),
    ((9, 9, 4), layers.ZeroPadding2D(1), layers.SeparableConv2D(3, 3)),
    ((5, 5, 5, 4), layers.ZeroPadding3D(1), layers.Conv3D(3, 3)),
]


@pytest.mark.parametrize(("shape", "padding", "convolution"), PADDED)
def test_padding_is_merged(shape: tuple[int | None, ...], padding: KerasLayer, convolution: KerasLayer) -> None:
    inputs = keras.Input(shape)
    model = randomize(keras.Model(inputs, layers.ReLU()(convolution(padding(inputs)))))
    result = rewrite(model, rules=SIMPLIFICATIONS)
    assert applied(result.results) == [("zero-padding", convolution.name)], reasons(result.results)
    assert result.model.layers[1].padding == "same"
    assert len(result.model.layers) == 3
    assert gap(result.model, model, sample(model)) <= 1e-6


@pytest.mark.parametrize(
    ("shape", "padding", "convolution", "reason"),
    [
        (
            (8, 8, 4),
            layers.ZeroPadding2D(1),
            layers.Conv2D(3, 3, strides=2),
            "(1, 1), padding same would pad by (0, 1)",
        ),
        ((9, 9, 4), layers.ZeroPadding2D(2), layers.Conv2D(3, 3), "(2, 2), padding same would pad by (1, 1)"),
        ((None, 9, 4), layers.ZeroPadding2D(1), layers.Conv2D(3, 3, strides=2), "axis 1, which is dynamic"),
    ],
)
def test_padding_stays(
    shape: tuple[int | None, ...], padding: KerasLayer, convolution: KerasLayer, reason: str
) -> None:
    inputs = keras.Input(shape)
    model = keras.Model(inputs, convolution(padding(inputs)))
    result = rewrite(model, rules=SIMPLIFICATIONS)
    assert result.model is model
    assert reason in reasons(result.results)[0]


def test_padding_with_a_second_reader_stays() -> None:
    inputs = keras.Input((8, 8, 4))
    padded = layers.ZeroPadding2D(1)(inputs)
    model = keras.Model(inputs, [layers.Conv2D(3, 3, name="conv")(padded), layers.GlobalAveragePooling2D()(padded)])
    assert "another reader than conv" in reasons(rewrite(model, rules=SIMPLIFICATIONS).results)[0]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pads"),
    [
        (224, 7, 2, 1, (2, 3)),
        (224, 3, 2, 1, (0, 1)),
        (9, 3, 2, 1, (1, 1)),
        (8, 1, 2, 1, (0, 0)),
        (10, 3, 1, 4, (4, 4)),
        (None, 4, 1, 1, (1, 2)),
    ],
)
def test_same_padding(size: int | None, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride, dilation) == pads


def test_an_export_does_not_simplify() -> None:
    model = normalized()
    assert rewrite(model).model is model


def test_both_tuples_together() -> None:
    model = grouped_model()
    inputs = keras.Input((9, 9, 8))
    whole = keras.Model(inputs, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(2, 3)(model(inputs)))))
    randomize(whole)
    result = rewrite(whole, rules=(*REWRITES, *SIMPLIFICATIONS), inputs=sample(whole))
    assert {rule for rule, _ in applied(result.results)} == {"grouped-convolution", "batch-norm-folding"}
    assert gap(result.model, whole, sample(whole)) <= 1e-6
