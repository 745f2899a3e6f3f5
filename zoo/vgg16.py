"""VGG-16 (Simonyan & Zisserman, Very Deep Convolutional Networks, 2014, configuration D), for one-channel images."""

from __future__ import annotations

import keras
from keras import layers

from zoo.blocks import hidden_dense_head

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, filters


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits)."""
    inputs = keras.Input(input_shape, name="input")
    x = inputs
    for block, (convolutions, filters) in enumerate(BLOCKS, start=1):
        for index in range(1, convolutions + 1):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv{index}")(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    outputs = hidden_dense_head(x, classes=classes, logits=logits)
    return keras.Model(inputs, outputs, name="vgg16")
