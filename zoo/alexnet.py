"""AlexNet (Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012): one column, no groups, no LRN."""

from __future__ import annotations

import keras
from keras import layers

from zoo.blocks import hidden_dense_head


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits)."""
    inputs = keras.Input(input_shape, name="input")
    x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = layers.Conv2D(256, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv4")(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv5")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool5")(x)
    outputs = hidden_dense_head(x, classes=classes, logits=logits)
    return keras.Model(inputs, outputs, name="alexnet")
