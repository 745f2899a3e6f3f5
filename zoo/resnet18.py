"""ResNet-18 (He et al., Deep Residual Learning for Image Recognition, 2015), with biases and for one-channel images."""

from __future__ import annotations

import keras
from keras import layers

from zoo.blocks import Tensor, head_activation, repeats

FILTERS = (64, 128, 256, 512)  # of the four stages
BLOCKS = 2  # in each of them


def basic_block(x: Tensor, filters: int, stride: int, name: str) -> Tensor:
    """Two 3x3 convolutions with BN, the first with `stride`, plus the shortcut: a 1x1 without BN where it strides."""
    shortcut = x
    if stride > 1:
        shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_shortcut")(x)

    x = layers.Conv2D(filters, 3, strides=stride, padding="same", name=f"{name}_conv1")(x)
    x = layers.BatchNormalization(name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)

    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(x)
    x = layers.BatchNormalization(name=f"{name}_bn2")(x)

    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_out")(x)


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool, depth: float = 1.0) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits)."""
    inputs = keras.Input(input_shape, name="input")
    x = layers.Conv2D(64, 7, strides=2, padding="same", name="stem_conv")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)

    for stage, filters in enumerate(FILTERS, start=1):
        x = basic_block(x, filters, 1 if stage == 1 else 2, f"stage{stage}_block1")
        for block in range(2, repeats(BLOCKS, depth) + 1):
            x = basic_block(x, filters, 1, f"stage{stage}_block{block}")

    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(classes, activation=head_activation(logits), name="predictions")(x)
    return keras.Model(inputs, outputs, name="resnet18")
