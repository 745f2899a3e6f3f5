"""Networks with recurrent layers, loops, attention and several levels, small enough for tests; weights are drawn."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

KerasModel = keras.Model


def drawn(model: KerasModel, seed: int = 0) -> KerasModel:
    """`model` with weights that let every gate and every branch matter; running variances stay positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" in str(weight.dtype) and "seed" not in weight.path:
            positive = "variance" in weight.path
            values = generator.uniform(0.5, 1.5, weight.shape) if positive else None
            fan = max(1, int(np.prod(weight.shape[:-1])))
            weight.assign(values if positive else generator.normal(size=weight.shape) / fan**0.5 + 0.02)
    return model


def crnn() -> KerasModel:
    """Text lines of any width: convolutions, two bidirectional LSTMs, logits for CTC."""
    inputs = keras.Input((16, None, 1), name="line")
    outputs = inputs
    for filters in (8, 16):
        outputs = layers.Conv2D(filters, 3, padding="same", activation="relu")(outputs)
        outputs = layers.BatchNormalization()(outputs)
        outputs = layers.MaxPooling2D((2, 1))(outputs)
    outputs = layers.Permute((2, 1, 3))(outputs)
    outputs = layers.TimeDistributed(layers.Flatten())(outputs)
    outputs = layers.Bidirectional(layers.LSTM(12, return_sequences=True))(outputs)
    outputs = layers.Bidirectional(layers.LSTM(12, return_sequences=True), merge_mode="sum")(outputs)
    return drawn(keras.Model(inputs, layers.Dense(11, name="logits")(outputs), name="crnn"))


def video_predictor() -> KerasModel:
    """The next frame of a film, from ConvLSTM layers."""
    inputs = keras.Input((6, 16, 16, 1), name="film")
    outputs = layers.ConvLSTM2D(6, 3, padding="same", return_sequences=True)(inputs)
    outputs = layers.BatchNormalization()(outputs)
    outputs = layers.ConvLSTM2D(6, 3, padding="same")(outputs)
    outputs = layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="frame")(outputs)
    return drawn(keras.Model(inputs, outputs, name="video_predictor"))


def attention_unet() -> KerasModel:
    """A U-Net whose skips pass through attention gates."""
    inputs = keras.Input((32, 32, 3), name="image")
    skips, outputs = [], inputs
    for filters in (8, 16):
        outputs = layers.Conv2D(filters, 3, padding="same", activation="relu")(outputs)
        skips.append(outputs)
        outputs = layers.MaxPooling2D()(outputs)
    outputs = layers.Conv2D(32, 3, padding="same", activation="relu")(outputs)
    for filters, skip in zip((16, 8), reversed(skips), strict=True):
        gate = layers.UpSampling2D(interpolation="bilinear")(outputs)
        joined = layers.Add()([layers.Conv2D(filters, 1)(skip), layers.Conv2D(filters, 1)(gate)])
        weight = layers.Conv2D(1, 1, activation="sigmoid")(layers.ReLU()(joined))
        outputs = layers.Concatenate()([layers.Multiply()([skip, weight]), gate])
        outputs = layers.Conv2D(filters, 3, padding="same", activation="relu")(outputs)
    return drawn(keras.Model(inputs, layers.Conv2D(2, 1, name="mask")(outputs), name="attention_unet"))


class Positions(layers.Layer):
    """A learned vector for each position, added."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.table = self.add_weight(shape=(1, *shape[1:]), name="positions")

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs + self.table


def vision_transformer() -> KerasModel:
    """Patches, positions, two blocks of attention, a head."""
    inputs = keras.Input((32, 32, 3), name="image")
    outputs = layers.Reshape((16, 24))(layers.Conv2D(24, 8, strides=8)(inputs))
    outputs = Positions()(outputs)
    for _ in range(2):
        normed = layers.LayerNormalization(epsilon=1e-6)(outputs)
        outputs = outputs + layers.MultiHeadAttention(3, 8)(normed, normed)
        normed = layers.LayerNormalization(epsilon=1e-6)(outputs)
        outputs = outputs + layers.Dense(24)(layers.Dense(48, activation="gelu")(normed))
    outputs = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(outputs))
    return drawn(keras.Model(inputs, layers.Dense(10, name="logits")(outputs), name="vision_transformer"))


class ShiftedWindows(layers.Layer):
    """Attention within windows of 4 x 4 positions, which are shifted by half a window: Roll, Reshape, Transpose."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.attention = layers.MultiHeadAttention(2, 8, name="attention")
        self.attention.build((None, 16, shape[-1]), (None, 16, shape[-1]))

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        _, height, width, channels = inputs.shape
        outputs = keras.ops.roll(inputs, (-2, -2), axis=(1, 2))
        outputs = keras.ops.reshape(outputs, (-1, height // 4, 4, width // 4, 4, channels))
        outputs = keras.ops.reshape(keras.ops.transpose(outputs, (0, 1, 3, 2, 4, 5)), (-1, 16, channels))
        outputs = self.attention(outputs, outputs)
        outputs = keras.ops.reshape(outputs, (-1, height // 4, width // 4, 4, 4, channels))
        outputs = keras.ops.reshape(keras.ops.transpose(outputs, (0, 1, 3, 2, 4, 5)), (-1, height, width, channels))
        return keras.ops.roll(outputs, (2, 2), axis=(1, 2))


def swin_block() -> KerasModel:
    """One block of shifted windows."""
    inputs = keras.Input((32, 32, 3), name="image")
    outputs = layers.Conv2D(16, 4, strides=4)(inputs)
    outputs = outputs + ShiftedWindows()(layers.LayerNormalization()(outputs))
    outputs = outputs + layers.Dense(16)(layers.Dense(32, activation="gelu")(layers.LayerNormalization()(outputs)))
    return drawn(keras.Model(inputs, layers.Dense(5, name="logits")(layers.GlobalAveragePooling2D()(outputs))))


def deeplab_head() -> KerasModel:
    """Dilated convolutions side by side, image pooling, and a bilinear resize back."""
    inputs = keras.Input((48, 48, 3), name="image")
    outputs = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    branches = [layers.SeparableConv2D(8, 3, padding="same", dilation_rate=rate)(outputs) for rate in (1, 3, 6)]
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(outputs)
    branches.append(layers.UpSampling2D(24, interpolation="bilinear")(layers.Conv2D(8, 1)(pooled)))
    outputs = layers.Conv2D(8, 1, activation="relu")(layers.Concatenate()(branches))
    outputs = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(4, 1)(outputs))
    return drawn(keras.Model(inputs, layers.Softmax(name="classes")(outputs), name="deeplab_head"))


def detector() -> KerasModel:
    """Boxes and scores at three levels, heads shared between them, as in RetinaNet."""
    inputs = keras.Input((64, 64, 3), name="image")
    outputs, levels = layers.Conv2D(8, 3, strides=4, padding="same", activation="relu")(inputs), []
    for _ in range(3):
        outputs = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(outputs)
        levels.append(outputs)
    merged = [levels[-1]]
    for level in reversed(levels[:-1]):
        merged.insert(0, layers.Add()([level, layers.UpSampling2D()(merged[0])]))
    boxes, scores = layers.Conv2D(8, 3, padding="same"), layers.Conv2D(6, 3, padding="same", activation="sigmoid")
    flat = [
        layers.Concatenate(axis=1, name=name)([layers.Reshape((-1, size))(head(level)) for level in merged])
        for name, head, size in (("boxes", boxes, 4), ("scores", scores, 3))
    ]
    return drawn(keras.Model(inputs, flat, name="detector"))


def translator() -> KerasModel:
    """Sequence to sequence: the states of the encoder are the initial states of the decoder; states are outputs too."""
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    encoded = layers.Embedding(20, 8, mask_zero=True)(source)
    _, hidden, carry = layers.LSTM(10, return_state=True)(encoded)
    embedded = layers.Embedding(22, 8, mask_zero=True)(target)
    decoded, *states = layers.LSTM(10, return_sequences=True, return_state=True)(
        embedded, initial_state=[hidden, carry]
    )
    outputs = [layers.Dense(22, activation="softmax", name="words")(decoded), *states]
    return drawn(keras.Model([source, target], outputs, name="translator"))


def tagger() -> KerasModel:
    """A tag for each word; words of number 0 are masked."""
    words = keras.Input((None,), dtype="int32", name="words")
    outputs = layers.Embedding(30, 8, mask_zero=True)(words)
    outputs = layers.Bidirectional(layers.GRU(6, return_sequences=True))(outputs)
    outputs = layers.GRU(6, return_sequences=True, reset_after=False)(outputs)
    return drawn(keras.Model(words, layers.Dense(5, name="tags")(outputs), name="tagger"))


NETWORKS: dict[str, Callable[[], KerasModel]] = {
    each.__name__: each
    for each in (
        crnn,
        video_predictor,
        attention_unet,
        vision_transformer,
        swin_block,
        deeplab_head,
        detector,
        translator,
        tagger,
    )
}
