"""Xception (Chollet, Deep Learning with Depthwise Separable Convolutions, CVPR 2017), with biases only in the head.

Layers have the names and the order of the public weights; the shortcuts, which have no names there, are called
`blockN_shortcut`.
"""

from __future__ import annotations

import keras
from keras import layers

from zoo.blocks import Tensor, head_activation


def separable(x: Tensor, filters: int, name: str) -> Tensor:
    """3x3 depthwise and 1x1 pointwise convolution with "same" padding, then BN."""
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def shortcut(x: Tensor, filters: int, block: int) -> Tensor:
    """A strided 1x1 convolution with BN, the shortcut of a block that halves the image."""
    x = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False, name=f"block{block}_shortcut")(x)
    return layers.BatchNormalization(name=f"block{block}_shortcut_bn")(x)


def halve(x: Tensor, residual: Tensor, block: int) -> Tensor:
    """The end of a block that halves the image: a strided max-pool, plus the shortcut `residual`."""
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    return layers.Add(name=f"block{block}_add")([x, residual])


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits)."""
    inputs = keras.Input(input_shape, name="input")
    x = layers.Conv2D(32, 3, strides=2, use_bias=False, name="block1_conv1")(inputs)
    x = layers.BatchNormalization(name="block1_conv1_bn")(x)
    x = layers.Activation("relu", name="block1_conv1_act")(x)
    x = layers.Conv2D(64, 3, use_bias=False, name="block1_conv2")(x)
    x = layers.BatchNormalization(name="block1_conv2_bn")(x)
    x = layers.Activation("relu", name="block1_conv2_act")(x)

    # Entry flow. Block 2 has no activation in front: block 1 ends with one.
    for block, filters in ((2, 128), (3, 256), (4, 728)):
        residual = shortcut(x, filters, block)
        if block > 2:
            x = layers.Activation("relu", name=f"block{block}_sepconv1_act")(x)
        x = separable(x, filters, f"block{block}_sepconv1")
        x = layers.Activation("relu", name=f"block{block}_sepconv2_act")(x)
        x = separable(x, filters, f"block{block}_sepconv2")
        x = halve(x, residual, block)

    # Middle flow
    for block in range(5, 13):
        residual = x
        for index in (1, 2, 3):
            x = layers.Activation("relu", name=f"block{block}_sepconv{index}_act")(x)
            x = separable(x, 728, f"block{block}_sepconv{index}")
        x = layers.Add(name=f"block{block}_add")([x, residual])

    # Exit flow
    residual = shortcut(x, 1024, 13)
    x = layers.Activation("relu", name="block13_sepconv1_act")(x)
    x = separable(x, 728, "block13_sepconv1")
    x = layers.Activation("relu", name="block13_sepconv2_act")(x)
    x = separable(x, 1024, "block13_sepconv2")
    x = halve(x, residual, 13)

    x = separable(x, 1536, "block14_sepconv1")
    x = layers.Activation("relu", name="block14_sepconv1_act")(x)
    x = separable(x, 2048, "block14_sepconv2")
    x = layers.Activation("relu", name="block14_sepconv2_act")(x)

    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(classes, activation=head_activation(logits), name="predictions")(x)
    return keras.Model(inputs, outputs, name="xception")
