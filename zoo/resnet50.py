"""ResNet-50, version 1 (He et al., Deep Residual Learning for Image Recognition, 2015), for its first public weights.

Layer names and the position of the stride (in the first 1x1 of a stage) are those of the weights file
`resnet50_weights_tf_dim_ordering_tf_kernels.h5`, which was saved by Keras 1.
"""

from __future__ import annotations

import keras
from keras import layers

from zoo.blocks import Tensor, head_activation, repeats

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # of the blocks of a stage
STAGES = (
    (2, (64, 64, 256), 3),  # number in the layer names, filters, blocks
    (3, (128, 128, 512), 4),
    (4, (256, 256, 1024), 6),
    (5, (512, 512, 2048), 3),
)


def bottleneck(x: Tensor, filters: tuple[int, int, int], stride: int, label: str, project: bool) -> Tensor:
    """1x1 with `stride`, 3x3 same, 1x1, each with bias and BN, plus the shortcut (a strided 1x1 where `project`)."""
    narrow, middle, wide = filters
    shortcut = x

    x = layers.Conv2D(narrow, 1, strides=stride, name=f"res{label}_branch2a")(x)
    x = layers.BatchNormalization(name=f"bn{label}_branch2a")(x)
    x = layers.ReLU(name=f"res{label}_branch2a_relu")(x)

    x = layers.Conv2D(middle, 3, padding="same", name=f"res{label}_branch2b")(x)
    x = layers.BatchNormalization(name=f"bn{label}_branch2b")(x)
    x = layers.ReLU(name=f"res{label}_branch2b_relu")(x)

    x = layers.Conv2D(wide, 1, name=f"res{label}_branch2c")(x)
    x = layers.BatchNormalization(name=f"bn{label}_branch2c")(x)

    if project:
        shortcut = layers.Conv2D(wide, 1, strides=stride, name=f"res{label}_branch1")(shortcut)
        shortcut = layers.BatchNormalization(name=f"bn{label}_branch1")(shortcut)
    x = layers.Add(name=f"res{label}_add")([x, shortcut])
    return layers.ReLU(name=f"res{label}_relu")(x)


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool, depth: float = 1.0) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits).

    `fc1000` is linear and the activation is a separate layer, `predictions`: so the weights have the name that they
    have in the public file, and the output has the name that it has in the whole zoo.
    """
    inputs = keras.Input(input_shape, name="input")
    x = layers.ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = layers.Conv2D(64, 7, strides=2, name="conv1")(x)
    x = layers.BatchNormalization(name="bn_conv1")(x)
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)

    for stage, filters, blocks in STAGES:
        for block in range(repeats(blocks, depth)):
            first = block == 0
            stride = 2 if first and stage > 2 else 1
            x = bottleneck(x, filters, stride, f"{stage}{LETTERS[block]}", project=first)

    x = layers.AveragePooling2D(7, name="avg_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, name="fc1000")(x)
    outputs = layers.Activation(head_activation(logits), name="predictions")(x)
    return keras.Model(inputs, outputs, name="resnet50")
