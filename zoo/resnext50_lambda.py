"""ResNeXt-50 with its groups written out, as tutorials did before Keras had `Conv2D(groups=...)`.

It computes what `zoo.resnext50` computes, in 1,201 layers instead of 177, and serves as an example for the rewrites:
its export must have the graph of `resnext50`.
"""

from __future__ import annotations

import keras
from keras import layers

from zoo import blocks
from zoo.blocks import Tensor

GROUPS = 32


def sliced_convolution(x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """32 slices of width / 32 channels, an ordinary 3x3 convolution for each, and their concatenation.

    A Lambda runs again at every call of the model, after the loop has ended, so its slice is bound by `c=c`; otherwise
    all 32 would read the last group.
    """
    size = width // GROUPS
    groups = []
    for c in range(GROUPS):
        group = layers.Lambda(
            lambda z, c=c, size=size: z[:, :, :, c * size : (c + 1) * size],
            output_shape=(*x.shape[1:3], size),
            name=f"{name}_slice{c}",
        )(x)
        group = layers.Conv2D(size, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_group{c}")(group)
        groups.append(group)
    return layers.Concatenate(name=name)(groups)


def build(*, classes: int, input_shape: tuple[int, int, int], logits: bool) -> keras.Model:
    """`input_shape` (H, W, C) to `classes` probabilities (or logits): 1,201 layers."""
    return blocks.resnext50(
        sliced_convolution, name="resnext50-lambda", classes=classes, input_shape=input_shape, logits=logits
    )
