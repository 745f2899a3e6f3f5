"""Small models for `verdicts.py`: one for each kind of layer and of structure.

Their weights are seeded and calibrated, unless the docstring says that they are Keras's initial ones.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from verdict_cases import SMALL, TINY
from verdict_parts import classes, complete, conv, image_of

from converter.core.foreign import KerasLayer, KerasModel, KerasTensor


def depthwise() -> KerasModel:
    """Depthwise only: no channel reads another one."""
    image = x = image_of()
    for number in (1, 2):
        x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name=f"depthwise{number}")(x)
    return complete(image, layers.DepthwiseConv2D(3, 2, padding="same", name="last")(x), "depthwise")


def separable() -> KerasModel:
    image = image_of()
    x = layers.SeparableConv2D(16, 3, padding="same", activation="relu", name="separable1")(image)
    return complete(image, classes(layers.SeparableConv2D(24, 3, 2, padding="same", name="separable2")(x)), "separable")


def transposed_convolution() -> KerasModel:
    image = image_of()
    x = conv(image, 16, "down", strides=2)
    x = layers.Conv2DTranspose(8, 3, 2, padding="same", activation="relu", name="up")(x)
    return complete(image, layers.Conv2D(2, 1, name="map")(x), "transposed_convolution")


def convolution_1d() -> KerasModel:
    signal = keras.Input((128, 2), name="signal")
    x = layers.Conv1D(16, 7, 2, padding="same", activation="relu", name="conv1")(signal)
    x = layers.Conv1D(16, 3, dilation_rate=2, padding="causal", activation="relu", name="conv2")(x)
    x = layers.GlobalMaxPooling1D(name="max")(x)
    return complete(signal, layers.Dense(4, activation="softmax", name="classes")(x), "convolution_1d")


def convolution_3d() -> KerasModel:
    volume = keras.Input((16, 16, 16, 1), name="volume")
    x = layers.Conv3D(8, 3, padding="same", activation="relu", name="conv1")(volume)
    x = layers.Conv3D(8, 3, activation="relu", name="conv2")(layers.MaxPooling3D(2, name="shrink")(x))
    x = layers.GlobalAveragePooling3D(name="average")(x)
    return complete(volume, layers.Dense(4, name="scores")(x), "convolution_3d")


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.first = layers.Conv2D(8, 3, activation="relu", name="first")
        self.second = layers.Conv2D(16, 3, 2, activation="relu", name="second")
        self.average = layers.GlobalAveragePooling2D(name="average")
        self.scores = layers.Dense(5, activation="softmax", name="scores")

    def call(self, image: KerasTensor) -> KerasTensor:
        return self.scores(self.average(self.second(self.first(image))))


def subclassed() -> KerasModel:
    """Keras's initial weights."""
    model = Subclassed()
    model(np.zeros((1, *TINY), np.float32))
    return model


def nested() -> KerasModel:
    inner_image = image_of(name="inner_image")
    inner = keras.Model(inner_image, conv(conv(inner_image, 8, "conv1"), 16, "conv2", strides=2), name="backbone")
    image = image_of()
    head_input = keras.Input((16,), name="head_input")
    head = keras.Sequential([head_input, layers.Dense(8, activation="relu"), layers.Dense(3)], name="head")
    return complete(image, head(layers.GlobalAveragePooling2D(name="average")(inner(image))), "nested")


def shared() -> KerasModel:
    """One convolution that is called twice, on two sizes."""
    image = image_of()
    layer = layers.Conv2D(3, 3, padding="same", activation="tanh", name="twice")
    x = layer(layers.MaxPooling2D(2, name="shrink")(layer(image)))
    return complete(image, layers.Conv2D(2, 1, name="map")(x), "shared")


def siamese() -> KerasModel:
    """The distance of two images that one backbone reads: exchanging them changes nothing."""
    left, right = image_of(name="left"), image_of(name="right")
    inner = image_of(name="inner")
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(inner, 8, "conv1"), 16, "conv2", strides=2))
    backbone = keras.Model(inner, layers.Dense(8, name="embedding")(x), name="backbone")
    gap = layers.Subtract(name="gap")([backbone(left), backbone(right)])
    distance = layers.Lambda(lambda z: ops.sqrt(ops.sum(z * z, -1, keepdims=True)), output_shape=(1,), name="distance")
    return complete([left, right], distance(gap), "siamese")


def image_and_facts() -> KerasModel:
    image, facts = image_of(), keras.Input((4,), name="facts")
    x = layers.GlobalAveragePooling2D(name="average")(conv(image, 16, "conv", strides=2))
    x = layers.Concatenate(name="join")([x, layers.Dense(16, activation="relu", name="facts_hidden")(facts)])
    return complete([image, facts], layers.Dense(5, activation="softmax", name="classes")(x), "image_and_facts")


def dict_outputs() -> KerasModel:
    """Two heads of the same shape."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(image, 8, "conv1"), 16, "conv2", strides=2))
    outputs = {name: layers.Dense(4, activation="softmax", name=f"{name}_head")(x) for name in ("shape", "colour")}
    return complete(image, outputs, "dict_outputs")


def scalar() -> KerasModel:
    """One number for each sample."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(image, 8, "conv1"), 16, "conv2", strides=2))
    return complete(image, layers.Dense(1, name="age")(x), "scalar")


def leaky() -> KerasModel:
    image = image_of()
    x = layers.PReLU(name="prelu")(layers.Conv2D(8, 3, name="conv1")(image))
    x = layers.PReLU(shared_axes=[1, 2], name="prelu_shared")(layers.Conv2D(8, 3, name="conv2")(x))
    x = layers.LeakyReLU(negative_slope=0.2, name="leaky")(layers.Conv2D(8, 3, 2, name="conv3")(x))
    return complete(image, classes(x), "leaky")


def self_attention() -> KerasModel:
    """A transformer block over patches."""
    image = image_of()
    x = layers.Reshape((64, 16), name="patches")(layers.Conv2D(16, 4, 4, name="embedding")(image))
    y = layers.LayerNormalization(name="norm1")(x)
    x = layers.Add(name="add1")([x, layers.MultiHeadAttention(2, 8, name="attention")(y, y)])
    y = layers.Dense(32, activation="gelu", name="mlp1")(layers.LayerNormalization(name="norm2")(x))
    x = layers.Add(name="add2")([x, layers.Dense(16, name="mlp2")(y)])
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return complete(image, layers.Dense(5, activation="softmax", name="classes")(x), "self_attention")


def squeeze_excite() -> KerasModel:
    image = image_of()
    x = conv(image, 16, "conv1")
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(4, 1, activation="relu", name="reduce")(gate)
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="expand")(gate)
    x = layers.Multiply(name="excite")([x, gate])
    return complete(image, classes(conv(x, 16, "conv2", strides=2)), "squeeze_excite")


def residual() -> KerasModel:
    """A block whose two branches are added, with logits."""
    image = image_of()
    x = conv(image, 16, "stem")
    branch = layers.Conv2D(16, 3, padding="same", name="branch2")(conv(x, 16, "branch1"))
    x = layers.Add(name="join")([x, branch])
    x = layers.GlobalAveragePooling2D(name="average")(conv(x, 16, "last", strides=2))
    return complete(image, layers.Dense(6, name="logits")(x), "residual")


def untrained_efficientnet() -> KerasModel:
    """The features of EfficientNetB0 with Keras's initial weights."""
    return keras.applications.EfficientNetB0(weights=None, input_shape=SMALL, include_top=False)


def untrained_mobilenet() -> KerasModel:
    """The features of MobileNetV3Small with Keras's initial weights."""
    return keras.applications.MobileNetV3Small(weights=None, input_shape=SMALL, include_top=False)


class Standardized(layers.Conv2D):  # type: ignore[misc]
    """A convolution whose kernel has mean 0 and variance 1 for each filter: a factor of the kernel changes nothing."""

    def convolution_op(self, inputs: KerasTensor, kernel: KerasTensor) -> KerasTensor:
        mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
        size = float(np.prod(kernel.shape[:-1]))
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance * size + 1e-8))


def standardized() -> KerasModel:
    image = image_of()
    x = Standardized(16, 3, activation="relu", name="conv1")(image)
    x = Standardized(16, 3, 2, activation="relu", name="conv2")(x)
    return complete(image, classes(x), "standardized")


def _normalized(name: str, *normalizations: KerasLayer) -> KerasModel:
    """Convolutions without a bias before normalizations, so that a factor of a kernel changes next to nothing."""
    image = x = image_of()
    for number, layer in enumerate(normalizations, start=1):
        x = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(layer(x))
    return complete(image, classes(x), name)


def group_normalized() -> KerasModel:
    return _normalized("group_normalized", *(layers.GroupNormalization(4, name=f"norm{each}") for each in (1, 2, 3)))


def layer_normalized() -> KerasModel:
    return _normalized("layer_normalized", *(layers.LayerNormalization(name=f"norm{each}") for each in (1, 2, 3)))


def unit_normalized() -> KerasModel:
    """An embedding of length 1."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(image, 16, "conv", strides=2))
    x = layers.Dense(8, use_bias=False, name="embedding")(x)
    return complete(image, layers.UnitNormalization(name="unit")(x), "unit_normalized")
