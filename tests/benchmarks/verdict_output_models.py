"""Small models for `verdicts.py`: one for each kind of output, of precision and of size.

Their weights are seeded and calibrated, unless the docstring says that they are Keras's initial ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from verdict_cases import SMALL
from verdict_parts import classes, complete, conv, image_of

from converter.core.foreign import KerasModel, KerasTensor

STRIDE, GRID, SCORES = 8, 8, 10
ANY_SIZE = (None, None, 3)


def _features(image: KerasTensor) -> KerasTensor:
    """8 x 8 positions of 32 features for an image of 64 x 64."""
    x = conv(image, 16, "stem", strides=2)
    return conv(conv(x, 32, "stage1", strides=2), 32, "stage2", strides=2)


def detector() -> KerasModel:
    """Boxes in pixels of up to 640, and scores of about 0.002, joined in one output."""
    image = image_of(SMALL)
    x = _features(image)
    boxes = layers.Conv2D(4, 1, activation="sigmoid", name="boxes")(x)
    boxes = layers.Rescaling(640.0, name="pixels")(layers.Reshape((GRID * GRID, 4), name="boxes_flat")(boxes))
    scores = layers.Conv2D(SCORES, 1, activation="sigmoid", name="scores")(x)
    scores = layers.Reshape((GRID * GRID, SCORES), name="scores_flat")(scores)
    model = complete(image, layers.Concatenate(name="detections")([boxes, scores]), "detector")
    model.get_layer("scores").bias.assign_sub(np.full(SCORES, 6.8, np.float32))
    return model


def untrained_detector() -> KerasModel:
    """Decoded boxes with Keras's initial weights: the grid dominates, so that samples hardly differ."""
    image = x = image_of(SMALL)
    for number, filters in enumerate((8, 16, 32), start=1):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.Activation("silu", name=f"silu{number}")(layers.BatchNormalization(name=f"bn{number}")(x))
    x = layers.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(0.0, 1e-3), name="head")(x)
    x = layers.Reshape((GRID * GRID, 4), name="flat")(x)
    rows, columns = np.divmod(np.arange(GRID * GRID), GRID)
    grid = np.stack([columns, rows], axis=-1).astype(np.float32)

    def decoded(z: KerasTensor) -> KerasTensor:
        centre = (ops.sigmoid(z[..., :2]) + ops.convert_to_tensor(grid)) * STRIDE
        return ops.concatenate([centre, ops.exp(z[..., 2:]) * 4 * STRIDE], axis=-1)

    boxes = layers.Lambda(decoded, output_shape=(GRID * GRID, 4), name="boxes")(x)
    return keras.Model(image, boxes, name="untrained_detector")


def untrained_sigmoids() -> KerasModel:
    """A feature map behind six sigmoid layers with Keras's initial weights: samples differ by about 5e-5."""
    image = x = image_of()
    for number in range(1, 7):
        x = layers.Conv2D(16, 3, activation="sigmoid", name=f"conv{number}")(x)
        x = layers.AveragePooling2D(2, 1, name=f"pool{number}")(x)
    return keras.Model(image, layers.Conv2D(8, 1, name="map")(x), name="untrained_sigmoids")


def untrained_unet() -> KerasModel:
    """Five levels with Keras's initial weights."""
    image = x = image_of(SMALL)
    levels = []
    for number, filters in enumerate((4, 8, 16, 32, 64), start=1):
        x = conv(conv(x, filters, f"down{number}a"), filters, f"down{number}b")
        if number < 5:
            levels.append(x)
            x = layers.MaxPooling2D(2, name=f"shrink{number}")(x)
    for number, filters in zip((4, 3, 2, 1), (32, 16, 8, 4), strict=True):
        x = layers.Conv2DTranspose(filters, 2, 2, name=f"up{number}")(x)
        x = layers.Concatenate(name=f"join{number}")([levels[number - 1], x])
        x = conv(conv(x, filters, f"up{number}a"), filters, f"up{number}b")
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x), name="untrained_unet")


def activations() -> KerasModel:
    """One output for each of eight activations of the same features; some of them saturate."""
    image = image_of()
    x = layers.Conv2D(16, 3, 2, name="conv")(image)
    names = ("relu", "relu6", "sigmoid", "tanh", "softplus", "hard_sigmoid", "gelu", "elu")
    model = complete(image, [layers.Activation(name, name=f"{name}_output")(x) for name in names], "activations")
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel * 3.0)
    return model


def dead_relu() -> KerasModel:
    """One of three outputs is zero for every input."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(image, 16, "conv", strides=2))
    heads = [layers.Dense(6, activation="relu", name=name)(x) for name in ("live", "dead")]
    model = complete(image, [*heads, layers.Dense(4, activation="softmax", name="classes")(x)], "dead_relu")
    model.get_layer("dead").bias.assign(np.full(6, -100.0, np.float32))
    return model


def nearly_constant() -> KerasModel:
    """A quality between 0.999 and 1 for each pixel."""
    image = image_of()
    x = conv(image, 16, "conv")
    x = layers.Conv2D(1, 1, activation="tanh", name="quality")(x)
    return complete(image, layers.Rescaling(0.0005, 0.9995, name="rescaled")(x), "nearly_constant")


def saturated() -> KerasModel:
    """Sigmoids that are 1 in float32 for half of the pixels."""
    image = image_of()
    x = layers.Conv2D(2, 1, name="logits")(conv(image, 16, "conv"))
    x = layers.Rescaling(30.0, name="sharper")(x)
    return complete(image, layers.Activation("sigmoid", name="mask")(x), "saturated")


def exponential() -> KerasModel:
    """A decoder that ends in exp, of a temperature: its rounding of 3e-5 is a relative error of the output."""
    image = image_of()
    x = layers.Conv2D(3, 1, name="spread")(conv(conv(image, 16, "conv1"), 16, "conv2"))
    x = layers.Rescaling(2.0, 700.0, name="kelvin")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)  # so that the offsets do not cancel when they are folded
    x = layers.Activation("exponential", name="radiance")(layers.Rescaling(1.0, -700.0, name="relative")(x))
    return complete(image, x, "exponential")


def large_logits() -> KerasModel:
    """A softmax for each pixel, of logits up to 100."""
    image = image_of()
    x = layers.Conv2D(6, 1, name="logits")(conv(conv(image, 16, "conv1"), 16, "conv2", strides=2))
    return complete(image, layers.Softmax(name="classes")(layers.Rescaling(30.0, name="sharper")(x)), "large_logits")


def _labelled(name: str, argmax: Callable[[KerasTensor], KerasTensor]) -> KerasModel:
    image = image_of()
    x = layers.Conv2D(6, 1, name="logits")(conv(conv(image, 16, "conv1"), 16, "conv2"))
    label = layers.Lambda(argmax, output_shape=(32, 32), name="label")
    return complete(image, label(x), name)


def argmax() -> KerasModel:
    """A class for each pixel, as an integer, and nothing else."""
    return _labelled("argmax", lambda z: tf.argmax(z, axis=-1, output_type=tf.int32))


def scores_and_argmax() -> KerasModel:
    image = image_of()
    scores = classes(conv(conv(image, 16, "conv1"), 16, "conv2", strides=2))
    label = layers.Lambda(lambda z: tf.argmax(z, axis=-1, output_type=tf.int32), output_shape=(), name="label")
    return complete(image, [scores, label(scores)], "scores_and_argmax")


def threshold() -> KerasModel:
    """A mask of true and false."""
    image = image_of()
    x = layers.Conv2D(1, 1, name="logits")(conv(conv(image, 16, "conv1"), 16, "conv2"))
    return complete(image, {"mask": ops.greater(x, 0.8)}, "threshold")


def glu() -> KerasModel:
    """A gated linear unit, whose layer declares twice as many features as it returns."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(image, 16, "conv1"), 16, "conv2", strides=2))
    return complete(image, layers.Activation("glu", name="gated")(layers.Dense(12, name="dense")(x)), "glu")


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _mixed(policy: str) -> KerasModel:
    image = image_of()
    with _policy(policy):
        x = conv(conv(conv(image, 16, "conv1"), 24, "conv2", strides=2), 32, "conv3", strides=2)
        x = layers.GlobalAveragePooling2D(name="average")(x)
        x = layers.Dense(6, name="dense")(x)
    return complete(image, layers.Activation("softmax", dtype="float32", name="classes")(x), policy)


def mixed_float16() -> KerasModel:
    return _mixed("mixed_float16")


def mixed_bfloat16() -> KerasModel:
    return _mixed("mixed_bfloat16")


def feature_map() -> KerasModel:
    """64 channels."""
    image = image_of()
    x = conv(conv(image, 16, "conv1"), 32, "conv2", strides=2)
    return complete(image, layers.Conv2D(64, 3, padding="same", name="features")(x), "feature_map")


def two_scales() -> KerasModel:
    """Distances in the thousands and weights of about 0.001, joined in one output."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(image, 16, "conv1"), 32, "conv2", strides=2))
    large = layers.Rescaling(1000.0, name="millimetres")(layers.Dense(8, name="distances")(x))
    small = layers.Rescaling(0.001, name="weights")(layers.Dense(8, name="shares")(x))
    return complete(image, layers.Concatenate(name="joined")([large, small]), "two_scales")


def plain_logits() -> KerasModel:
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(image, 16, "conv1"), 32, "conv2", strides=2))
    return complete(image, layers.Dense(6, name="logits")(x), "plain_logits")


def twin_channels() -> KerasModel:
    """The first two of six outputs differ by 0.0003."""
    image = image_of()
    x = layers.GlobalAveragePooling2D(name="average")(conv(conv(image, 16, "conv1"), 32, "conv2", strides=2))
    model = complete(image, layers.Dense(6, name="logits")(x), "twin_channels")
    kernel, bias = (weight.numpy() for weight in model.get_layer("logits").weights)
    kernel[:, 1] = kernel[:, 0] * np.float32(1.0001)
    bias[1] = bias[0] + np.float32(1e-4)
    model.get_layer("logits").set_weights([kernel, bias])
    return model


def _any_size_map(name: str, interpolation: str) -> KerasModel:
    image = image_of(ANY_SIZE)
    x = layers.MaxPooling2D(2, padding="same", name="shrink")(conv(image, 8, "conv1"))
    x = layers.Conv2D(4, 1, name="map")(conv(x, 16, "conv2"))
    return complete(image, layers.UpSampling2D(2, interpolation=interpolation, name="enlarged")(x), name)


def any_size_map() -> KerasModel:
    """A map of any size, twice as large as half of the image."""
    return _any_size_map("any_size_map", "nearest")


def any_size_bilinear() -> KerasModel:
    """The same with interpolation, whose new size Keras computes in Python."""
    return _any_size_map("any_size_bilinear", "bilinear")


def any_size_classes() -> KerasModel:
    """Classes of an image of any size, from an average over all positions."""
    image = image_of(ANY_SIZE)
    x = layers.MaxPooling2D(2, padding="same", name="shrink")(conv(image, 8, "conv1"))
    return complete(image, classes(conv(x, 16, "conv2", strides=2)), "any_size_classes")


def any_size_group_normalized() -> KerasModel:
    image = image_of(ANY_SIZE)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(image)
    x = layers.ReLU(name="relu")(layers.GroupNormalization(4, name="norm")(x))
    return complete(image, layers.Conv2D(2, 1, name="map")(x), "any_size_group_normalized")


def _bilinear(factor: int) -> KerasModel:
    image = image_of()
    x = layers.UpSampling2D(factor, interpolation="bilinear", name="up")(conv(image, 8, "conv", strides=2))
    return complete(image, layers.Conv2D(2, 1, name="map")(x), f"bilinear_{factor}")


def bilinear_2() -> KerasModel:
    return _bilinear(2)


def bilinear_3() -> KerasModel:
    return _bilinear(3)
