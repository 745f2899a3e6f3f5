"""ResNeXt-50 32x4d (Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017)."""

from __future__ import annotations

import keras
from keras import layers

from zoo import blocks
from zoo.blocks import Tensor

GROUPS = 32


def grouped_convolution(x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """3x3 from `width` to `width` channels; each group of width / 32 outputs reads only its width / 32 inputs."""
    return layers.Conv2D(width, 3, strides=stride, padding="same", groups=GROUPS, use_bias=False, name=name)(x)


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool, depth: float = 1.0) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits): 177 layers."""
    return blocks.resnext50(
        grouped_convolution, name="resnext50", classes=classes, input_shape=input_shape, logits=logits, depth=depth
    )
