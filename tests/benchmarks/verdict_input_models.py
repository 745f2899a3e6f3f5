"""Small models for `verdicts.py`: symmetric in their channels or inputs, or with inputs that are not images of floats.

Their weights are seeded and calibrated.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from verdict_cases import TINY
from verdict_parts import classes, complete, conv, image_of

from converter.core.foreign import KerasModel, KerasTensor

TOKENS = 40


def pooling_only() -> KerasModel:
    source = image_of()
    x = layers.MaxPooling2D(3, 2, padding="same", name="max")(source)
    return keras.Model(source, layers.AveragePooling2D(2, name="average")(x), name="pooling_only")


def padding_and_cropping() -> KerasModel:
    source = image_of()
    x = layers.ZeroPadding2D(((1, 2), (3, 0)), name="pad")(source)
    return keras.Model(source, layers.Cropping2D(((0, 3), (2, 1)), name="crop")(x), name="padding_and_cropping")


def dot_product() -> KerasModel:
    left, right = image_of((32,), "left"), image_of((32,), "right")
    return keras.Model([left, right], layers.Dot(-1, name="product")([left, right]), name="dot_product")


def attention_of_two() -> KerasModel:
    """Without weights: every exchange of features in both inputs leaves the weights of the values unchanged."""
    query, value = image_of((16, 32), "query"), image_of((16, 32), "value")
    return keras.Model([query, value], layers.Attention(name="attended")([query, value]), name="attention_of_two")


def channels_first() -> KerasModel:
    source = image_of((3, 32, 32))
    x = layers.MaxPooling2D(2, data_format="channels_first", name="max")(source)
    x = layers.ZeroPadding2D(1, data_format="channels_first", name="pad")(x)
    x = layers.UpSampling2D(2, data_format="channels_first", name="up")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_first", name="average")(x)
    return keras.Model(source, x, name="channels_first")


def channels_first_normalized() -> KerasModel:
    source = image_of((3, 32, 32))
    x = layers.BatchNormalization(axis=1, name="bn")(source)
    x = layers.PReLU(shared_axes=[2, 3], name="prelu")(x)
    x = layers.AveragePooling2D(2, data_format="channels_first", name="average")(x)
    return complete(source, x, "channels_first_normalized")


def tokens_conv1d() -> KerasModel:
    tokens = keras.Input((TOKENS,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 16, name="embedding")(tokens)
    x = layers.Conv1D(24, 5, padding="same", activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return complete(tokens, layers.Dense(5, activation="softmax", name="topic")(x), "tokens_conv1d")


def tokens_bytes() -> KerasModel:
    """Text as bytes: all 256 values occur."""
    tokens = keras.Input((TOKENS,), dtype="uint8", name="tokens")
    x = layers.Embedding(256, 16, name="embedding")(tokens)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return complete(tokens, layers.Dense(5, activation="softmax", name="topic")(x), "tokens_bytes")


def one_hot() -> KerasModel:
    tokens = keras.Input((TOKENS,), dtype="uint8", name="tokens")
    x = ops.sum(ops.one_hot(ops.cast(tokens, "int32"), 256), axis=1)
    return complete(tokens, layers.Dense(5, activation="softmax", name="topic")(x), "one_hot")


def counted_categories() -> KerasModel:
    """How often each of two categories occurs."""
    answers = keras.Input((TOKENS,), dtype="int32", name="answers")
    x = layers.CategoryEncoding(2, output_mode="count", name="counts")(answers)
    return complete(answers, layers.Dense(5, name="scores")(x), "counted_categories")


class Lookup(layers.Layer):  # type: ignore[misc]
    """The value of a fixed table for each index."""

    def call(self, indices: KerasTensor) -> KerasTensor:
        table = np.random.default_rng(0).permutation(256).astype(np.int32)
        return ops.take(ops.convert_to_tensor(table), ops.cast(indices, "int32"), axis=0)


def lookup() -> KerasModel:
    tokens = keras.Input((TOKENS,), dtype="uint8", name="tokens")
    x = layers.Embedding(256, 8, name="embedding")(Lookup(name="table")(tokens))
    x = layers.Flatten(name="flat")(x)
    return complete(tokens, layers.Dense(5, name="scores")(x), "lookup")


def two_integers() -> KerasModel:
    """A recommender: a probability for each pair of a user and an item."""
    user, item = (keras.Input((1,), dtype="uint8", name=name) for name in ("user", "item"))
    x = layers.Concatenate(name="join")(
        [layers.Flatten(name=f"{name}_flat")(layers.Embedding(256, 8, name=f"{name}_embedding")(tensor))
         for name, tensor in (("user", user), ("item", item))]
    )  # fmt: skip
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    return complete([user, item], layers.Dense(1, activation="sigmoid", name="rating")(x), "two_integers")


def bytes_rescaled() -> KerasModel:
    image = keras.Input(TINY, dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(image)
    return complete(image, classes(conv(conv(x, 8, "conv1"), 16, "conv2")), "bytes_rescaled")
