"""Branches that tile the channels become one grouped convolution, or stay unchanged for a stated reason."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from grouped_models import (
    Joiner,
    Slicer,
    applied,
    bound_lambda,
    closed_lambda,
    concatenate_each_backwards,
    concatenate_first,
    concatenate_function,
    concatenate_lambda,
    concatenate_layer,
    concatenate_listed_otherwise,
    concatenate_ops,
    gap,
    getitem,
    getitem_channels_first,
    grouped_model,
    kinds,
    lambda_arguments,
    lambda_split,
    lambda_split_list,
    lambda_tf_slice,
    numbers,
    ops_split,
    ops_take,
    ops_take_backwards,
    own_layer,
    randomize,
    reasons,
    sample,
)
from keras import layers, ops

from converter.core.foreign import Given, KerasLayer, KerasModel, Tensor
from converter.rewrites import rewrite

NOISE = 1e-6

SLICERS = (
    bound_lambda,
    closed_lambda,
    lambda_arguments,
    lambda_split,
    lambda_split_list,
    lambda_tf_slice,
    getitem,
    ops_split,
    ops_take,
    ops_take_backwards,
    own_layer,
)
JOINERS = (
    concatenate_layer,
    concatenate_function,
    concatenate_ops,
    concatenate_lambda,
    concatenate_listed_otherwise,
    concatenate_each_backwards,
)


def assert_grouped(model: KerasModel, size: int = 9) -> KerasLayer:
    """The model becomes input, ReLU, one grouped convolution, ReLU, and computes the same."""
    result = rewrite(model)
    assert len(applied(result.results)) == 1, reasons(result.results)
    assert [kind[:4] for kind in kinds(result.model)] == ["Inpu", "ReLU", "Conv", "ReLU"]
    assert gap(result.model, model, sample(model, size=size)) <= NOISE
    return result.model.layers[2]


@pytest.mark.parametrize("slicer", SLICERS)
def test_every_spelling_of_slicing(slicer: Slicer) -> None:
    layer = assert_grouped(grouped_model(slicer))
    assert (layer.groups, layer.filters) == (4, 12)


@pytest.mark.parametrize("joiner", JOINERS)
def test_every_spelling_of_joining(joiner: Joiner) -> None:
    assert_grouped(grouped_model(getitem, joiner))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"strides": 2, "padding": "same", "use_bias": False},
        {"dilation_rate": 2, "activation": "relu"},
        {"kernel_size": 2, "padding": "same", "activation": "tanh"},
    ],
    ids=["stride", "dilation", "even"],
)
def test_settings_survive(rank: int, settings: Given) -> None:
    model = grouped_model(getitem, spatial=(7,) * rank, groups=2, **settings)
    layer = assert_grouped(model, size=7)
    old = model.get_layer("block_conv_0")
    for key in ("kernel_size", "strides", "padding", "dilation_rate", "use_bias", "activation", "data_format"):
        assert getattr(layer, key) == getattr(old, key)


def test_causal_padding() -> None:
    assert assert_grouped(grouped_model(getitem, spatial=(9,), padding="causal", dilation_rate=2)).padding == "causal"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_first(rank: int) -> None:
    model = grouped_model(
        getitem_channels_first, concatenate_first, spatial=(9,) * rank, groups=2, data_format="channels_first"
    )
    assert assert_grouped(model).data_format == "channels_first"


def test_a_users_activation_is_passed_on() -> None:
    def halved(x: Tensor) -> Tensor:
        return x * 0.5 + 0.25

    assert assert_grouped(grouped_model(getitem, activation=halved)).activation is halved


def test_dynamic_height_and_width() -> None:
    model = grouped_model(spatial=(None, None), padding="same")
    assert assert_grouped(model, size=13).kernel.shape == (3, 3, 2, 12)


def test_mixed_precision() -> None:
    model = grouped_model(dtype="mixed_float16")
    result = rewrite(model)
    assert applied(result.results), reasons(result.results)
    assert result.model.layers[2].dtype_policy.name == "mixed_float16"


def test_frozen_stays_frozen() -> None:
    model = grouped_model(trainable=False)
    layer = assert_grouped(model)
    assert not layer.trainable
    assert not layer.trainable_weights


def test_name_is_what_the_branches_share_and_the_rest_is_untouched() -> None:
    model = grouped_model()
    new = rewrite(model).model
    assert [layer.name for layer in new.layers] == ["image", "before", "block_conv", "after"]
    assert new.get_layer("after") is model.get_layer("after")
    assert new.name == model.name
    assert new.count_params() == model.count_params()


def test_counters_of_keras_are_not_used_as_names() -> None:
    model = grouped_model(each=lambda c: {"name": f"conv2d_{c + 7}"})
    assert assert_grouped(model).name == "joined_grouped"


def test_the_joined_kernel_is_the_trained_one() -> None:
    model = grouped_model()
    kernels = [model.get_layer(f"block_conv_{c}").kernel.numpy() for c in range(4)]
    np.testing.assert_array_equal(assert_grouped(model).kernel.numpy(), np.concatenate(kernels, axis=-1))


def test_the_old_model_keeps_working() -> None:
    model = grouped_model(getitem)
    x = sample(model)
    before = numbers(model, x)[0]
    count, config = len(model.layers), model.get_config()
    assert rewrite(model).changed
    np.testing.assert_array_equal(numbers(model, x)[0], before)
    assert len(model.layers) == count
    assert model.get_config() == config


def declined(model: KerasModel) -> str:
    result = rewrite(model)
    assert result.model is model
    assert not result.changed
    (reason,) = reasons(result.results)
    return reason


@pytest.mark.parametrize(
    ("each", "reason"),
    [
        (lambda c: {"filters": 3 + (c == 1)}, "filters is 3 in block_conv_0, 4 in block_conv_1"),
        (lambda c: {"kernel_size": 1 + 2 * (c == 2), "padding": "same"}, "kernel_size is"),
        (lambda c: {"dilation_rate": 1 + (c == 2), "padding": "same"}, "dilation_rate is"),
        (lambda c: {"use_bias": c != 3}, "use_bias is True in block_conv_0, False in block_conv_3"),
        (lambda c: {"activation": "relu" if c else "tanh"}, "activation is tanh in block_conv_0, relu"),
        (lambda c: {"trainable": c != 1}, "trainable is True in block_conv_0, False in block_conv_1"),
        (lambda c: {"activation": "softmax"}, "softmax of block_conv_0 acts across the channels"),
    ],
)
def test_unequal_branches(each: Callable[[int], Given], reason: str) -> None:
    assert reason in declined(grouped_model(getitem, each=each))


def test_activation_with_weights() -> None:
    model = grouped_model(getitem, each=lambda c: {"activation": layers.PReLU()})
    numbers(model, sample(model))  # builds the activations
    assert "the activation of block_conv_0 holds weights" in declined(model)


def uneven(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [x[..., :1], x[..., 1:4], x[..., 4:6], x[..., 6:]]


def overlapping(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [x[..., :2], x[..., 1:3], x[..., 4:6], x[..., 6:]]


def missing(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return getitem(x, groups, width)[:3]


def interleaved(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [ops.take(x, list(range(c, groups * width, groups)), axis=-1) for c in range(groups)]


def permuted(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [getitem(x, groups, width)[c] for c in (1, 0, 2, 3)]


def scaled(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [layers.Lambda(lambda z, c=c: 2 * z[..., c * width : (c + 1) * width])(x) for c in range(groups)]


def flipped(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [layers.Lambda(lambda z, c=c: z[:, ::-1, :, c * width : (c + 1) * width])(x) for c in range(groups)]


def rows_swapped(x: Tensor, groups: int, width: int) -> list[Tensor]:
    rows = [0, 2, 1, 3, 4, 5, 6, 7, 8]
    return [
        layers.Lambda(lambda z, c=c: ops.take(z, rows, axis=1)[..., c * width : (c + 1) * width])(x)
        for c in range(groups)
    ]


def raising(x: Tensor, groups: int, width: int) -> list[Tensor]:
    def take(z: Tensor, start: int) -> Tensor:
        if hasattr(z, "numpy"):
            raise ValueError("symbolic only")
        return z[..., start : start + width]

    return [layers.Lambda(take, arguments={"start": c * width})(x) for c in range(groups)]


@pytest.mark.parametrize(
    ("slicer", "reason"),
    [
        (uneven, "unequal branches: they read 1, 3, 2, 2 channels"),
        (overlapping, "do not tile the 8 channels (read twice: 1; never read: 3)"),
        (missing, "do not tile the 8 channels (never read: 6-7)"),
        (interleaved, "interleave"),
        (permuted, "joined in the order 1, 0, 2, 3"),
        (scaled, "does more than choose channels"),
        (flipped, "does more than choose channels"),
        (rows_swapped, "does more than choose channels"),
        (raising, "fails on a probe: symbolic only"),
    ],
)
def test_slices_that_are_not_groups(slicer: Slicer, reason: str) -> None:
    assert reason in declined(grouped_model(slicer))


def test_joined_along_another_axis() -> None:
    model = grouped_model(getitem, lambda parts: layers.Concatenate(axis=1, name="tall")(parts))
    assert "tall does not join its inputs along the channel axis" in declined(model)


def test_a_join_that_adds_is_not_rewritten() -> None:
    model = grouped_model(getitem, lambda parts: layers.Add()(parts))
    assert "does not join" in declined(model)


def test_shared_convolution() -> None:
    inputs = keras.Input((8, 8, 4))
    shared = layers.Conv2D(2, 3, name="both")
    outputs = layers.Concatenate()([shared(inputs[..., :2]), shared(inputs[..., 2:])])
    assert "the convolution both is shared" in declined(randomize(keras.Model(inputs, outputs)))


def test_second_reader_of_a_slice() -> None:
    inputs = keras.Input((8, 8, 4))
    first, second = ops.split(inputs, 2, axis=-1)
    joined = layers.Concatenate()([layers.Conv2D(2, 3)(first), layers.Conv2D(2, 3)(second)])
    model = randomize(keras.Model(inputs, [joined, layers.GlobalAveragePooling2D()(second)]))
    assert "has another reader" in declined(model)


def test_second_reader_of_a_convolution() -> None:
    inputs = keras.Input((8, 8, 4))
    first, second = layers.Conv2D(2, 3, name="one")(inputs[..., :2]), layers.Conv2D(2, 3)(inputs[..., 2:])
    model = randomize(keras.Model(inputs, {"joined": layers.Concatenate()([first, second]), "first": first}))
    assert "the convolution one has another reader than the join" in declined(model)


def test_two_layers_in_a_branch() -> None:
    inputs = keras.Input((8, 8, 4))
    parts = [layers.BatchNormalization()(layers.Conv2D(2, 3)(inputs[..., i : i + 2])) for i in (0, 2)]
    model = randomize(keras.Model(inputs, layers.Concatenate()(parts)))
    assert "not one slice and one convolution" in declined(model)


def test_branches_of_two_tensors() -> None:
    inputs = keras.Input((8, 8, 4))
    other = layers.ReLU()(inputs)
    sources = (inputs[..., :2], inputs[..., 2:], other[..., :2])
    model = keras.Model(inputs, layers.Concatenate()([layers.Conv2D(2, 3)(part) for part in sources]))
    assert "the branches slice different tensors" in declined(randomize(model))


def test_subclass_of_a_convolution() -> None:
    class Doubled(layers.Conv2D):
        def call(self, inputs: Tensor) -> Tensor:
            return 2 * super().call(inputs)

    inputs = keras.Input((8, 8, 4))
    parts = [Doubled(2, 3, name=f"twice{i}")(inputs[..., i : i + 2]) for i in (0, 2)]
    model = randomize(keras.Model(inputs, layers.Concatenate()(parts)))
    assert "twice0 is a Doubled" in declined(model)


def test_inception_is_not_a_candidate() -> None:
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layers.Concatenate()([layers.Conv2D(2, k, padding="same")(inputs) for k in (1, 3)]))
    result = rewrite(model)
    assert result.model is model
    assert result.results == ()
