"""Parts that two or more architectures share. Every function takes and returns NHWC Keras tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import keras
from keras import layers

Tensor: TypeAlias = keras.KerasTensor

RESNEXT_EPSILON = 1.001e-5
RESNEXT_STAGES = ((128, 3), (256, 4), (512, 6), (1024, 3))  # width of the bottlenecks, number of them

GroupedConvolution: TypeAlias = Callable[[Tensor, int, int, str], Tensor]
"""`grouped(x, width, stride, name)`: a 3x3 convolution in 32 groups, same padding, without bias."""


def head_activation(logits: bool) -> str:
    """The activation of a final layer: softmax, or none where the logits are the output."""
    return "linear" if logits else "softmax"


def repeats(count: int, depth: float) -> int:
    """How many of `count` equal blocks a network of the relative `depth` has: at least one."""
    return max(1, round(count * depth))


def hidden_dense_head(x: Tensor, *, classes: int, logits: bool) -> Tensor:
    """Flatten, two ReLU layers of 4096 units with dropout 0.5, and the classifier (AlexNet and VGG)."""
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4096, activation="relu", name="fc1")(x)
    x = layers.Dropout(0.5, name="fc1_dropout")(x)
    x = layers.Dense(4096, activation="relu", name="fc2")(x)
    x = layers.Dropout(0.5, name="fc2_dropout")(x)
    return layers.Dense(classes, activation=head_activation(logits), name="predictions")(x)


def resnext_bottleneck(
    x: Tensor, width: int, stride: int, grouped: GroupedConvolution, name: str, project: bool
) -> Tensor:
    """ResNeXt's bottleneck: 1x1 to `width`, `grouped` 3x3 with `stride`, 1x1 to 2 * `width`, plus the shortcut.

    `project` puts a 1x1 convolution with that stride into the shortcut. (Xie et al., 2017, figure 3c.)
    """
    shortcut = x
    if project:
        shortcut = layers.Conv2D(2 * width, 1, strides=stride, use_bias=False, name=f"{name}_shortcut")(x)
        shortcut = layers.BatchNormalization(epsilon=RESNEXT_EPSILON, name=f"{name}_shortcut_bn")(shortcut)

    x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_conv1")(x)
    x = layers.BatchNormalization(epsilon=RESNEXT_EPSILON, name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)

    x = grouped(x, width, stride, f"{name}_conv2")
    x = layers.BatchNormalization(epsilon=RESNEXT_EPSILON, name=f"{name}_bn2")(x)
    x = layers.ReLU(name=f"{name}_relu2")(x)

    x = layers.Conv2D(2 * width, 1, use_bias=False, name=f"{name}_conv3")(x)
    x = layers.BatchNormalization(epsilon=RESNEXT_EPSILON, name=f"{name}_bn3")(x)

    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_out")(x)


def resnext50(
    grouped: GroupedConvolution,
    *,
    name: str,
    classes: int,
    input_shape: tuple[int, int, int],
    logits: bool,
    depth: float = 1.0,
) -> keras.Model:
    """ResNeXt-50 32x4d with its grouped convolutions made by `grouped`."""
    inputs = keras.Input(input_shape, name="input")
    x = layers.ZeroPadding2D(3, name="stem_pad")(inputs)
    x = layers.Conv2D(64, 7, strides=2, name="stem_conv")(x)
    x = layers.BatchNormalization(epsilon=RESNEXT_EPSILON, name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)

    for stage, (width, blocks) in enumerate(RESNEXT_STAGES, start=1):
        for block in range(1, repeats(blocks, depth) + 1):
            first = block == 1
            stride = 2 if first and stage > 1 else 1
            x = resnext_bottleneck(x, width, stride, grouped, f"stage{stage}_block{block}", project=first)

    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    outputs = layers.Dense(classes, activation=head_activation(logits), name="predictions")(x)
    return keras.Model(inputs, outputs, name=name)
