"""GoogLeNet (Szegedy et al., Going Deeper with Convolutions, 2014), without LRN, with both auxiliary classifiers.

Every pool has padding "same", so that 224 pixels become 56, 28, 14 and 7, the sizes in the paper's table 1.
"""

from __future__ import annotations

import keras
from keras import layers

from zoo.blocks import Tensor, head_activation, repeats

# 1x1; 3x3 reduction, 3x3; 5x5 reduction, 5x5; projection after the pool
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}

MIDDLE = ("4b", "4c", "4d")  # between the auxiliary classifiers


def convolution(x: Tensor, filters: int, size: int, name: str, stride: int = 1) -> Tensor:
    """A convolution with "same" padding and ReLU."""
    return layers.Conv2D(filters, size, strides=stride, padding="same", activation="relu", name=name)(x)


def pool(x: Tensor, name: str, stride: int = 2) -> Tensor:
    """A 3x3 max-pool with "same" padding."""
    return layers.MaxPooling2D(3, strides=stride, padding="same", name=name)(x)


def inception(x: Tensor, block: str) -> Tensor:
    """The four branches of an inception module over the same input, concatenated in the paper's order."""
    one, reduce3, three, reduce5, five, project = INCEPTION[block]
    name = f"inception{block}"
    branch1 = convolution(x, one, 1, f"{name}_1x1")
    branch3 = convolution(x, reduce3, 1, f"{name}_3x3_reduce")
    branch3 = convolution(branch3, three, 3, f"{name}_3x3")
    branch5 = convolution(x, reduce5, 1, f"{name}_5x5_reduce")
    branch5 = convolution(branch5, five, 5, f"{name}_5x5")
    pooled = pool(x, f"{name}_pool", stride=1)
    pooled = convolution(pooled, project, 1, f"{name}_pool_proj")
    return layers.Concatenate(name=name)([branch1, branch3, branch5, pooled])


def auxiliary(x: Tensor, classes: int, logits: bool, name: str) -> Tensor:
    """An auxiliary classifier: 5x5/3 average pool, 1x1 to 128, dense 1024, dense to `classes`."""
    x = layers.AveragePooling2D(5, strides=3, padding="same", name=f"{name}_pool")(x)
    x = convolution(x, 128, 1, f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    return layers.Dense(classes, activation=head_activation(logits), name=name)(x)


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool, depth: float = 1.0) -> keras.Model:
    """`input_shape` (H, W, C) to three times `classes` probabilities (or logits): `main`, `aux1`, `aux2`.

    With a `depth` below 1, the modules before the second auxiliary classifier are fewer. Raises ValueError above 1.
    """
    if depth > 1.0:
        raise ValueError(f"googlenet: has no blocks to repeat for a depth of {depth:g}, give at most 1")
    inputs = keras.Input(input_shape, name="input")
    x = convolution(inputs, 64, 7, "conv1", stride=2)
    x = pool(x, "pool1")
    x = convolution(x, 64, 1, "conv2_reduce")
    x = convolution(x, 192, 3, "conv2")
    x = pool(x, "pool2")

    x = inception(x, "3a")
    x = inception(x, "3b")
    x = pool(x, "pool3")

    x = inception(x, "4a")
    aux1 = auxiliary(x, classes, logits, "aux1")
    for block in MIDDLE[len(MIDDLE) - repeats(len(MIDDLE), depth) :]:
        x = inception(x, block)
    aux2 = auxiliary(x, classes, logits, "aux2")
    x = inception(x, "4e")
    x = pool(x, "pool4")

    x = inception(x, "5a")
    x = inception(x, "5b")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    main = layers.Dense(classes, activation=head_activation(logits), name="main")(x)
    return keras.Model(inputs, [main, aux1, aux2], name="googlenet")
