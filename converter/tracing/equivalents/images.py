"""Operators on images: colours between red, green, blue and hue, saturation, value; resizing in any precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.core.data import Array
from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule


def to_hsv(node: NodeDef, images: Tensor) -> Tensor:
    """Hue, saturation and value of red, green and blue along the last axis, as TensorFlow computes them."""
    import tensorflow as tf

    red, green, blue = tf.unstack(images, num=3, axis=-1)
    value = tf.reduce_max(images, axis=-1)
    chroma = value - tf.reduce_min(images, axis=-1)
    one = tf.ones_like(value)
    saturation = tf.where(value > 0.0, chroma / tf.where(value > 0.0, value, one), tf.zeros_like(value))
    sixth = 1.0 / (6.0 * tf.where(chroma > 0.0, chroma, one))
    hue = tf.where(
        tf.equal(red, value),
        sixth * (green - blue),
        tf.where(tf.equal(green, value), sixth * (blue - red) + 2.0 / 6.0, sixth * (red - green) + 4.0 / 6.0),
    )
    hue = tf.where(chroma > 0.0, hue, tf.zeros_like(hue))
    return tf.stack([tf.where(hue < 0.0, hue + 1.0, hue), saturation, value], axis=-1)


def to_rgb(node: NodeDef, images: Tensor) -> Tensor:
    """Red, green and blue of hue, saturation and value along the last axis, as TensorFlow computes them."""
    import tensorflow as tf

    hue, saturation, value = tf.unstack(images, num=3, axis=-1)
    angle = hue * 6.0
    pure = [
        tf.clip_by_value(tf.abs(angle - 3.0) - 1.0, 0.0, 1.0),
        tf.clip_by_value(2.0 - tf.abs(angle - 2.0), 0.0, 1.0),
        tf.clip_by_value(2.0 - tf.abs(angle - 4.0), 0.0, 1.0),
    ]
    return tf.stack([(1.0 - saturation + saturation * each) * value for each in pure], axis=-1)


def resized(node: NodeDef, images: Tensor, size: Tensor) -> Tensor | None:
    """Bilinear resizing between known sizes as a product with two matrices: in float64 it has no other form.

    Position i of the result stands at (i + 1/2) * ratio - 1/2 (half pixel centers), at i * ratio otherwise, and there
    between its two neighbours.
    """
    import tensorflow as tf

    wanted, given = tf.get_static_value(size), images.shape[1:3]
    if wanted is None or None in given or not images.dtype.is_floating:
        return None
    aligned, centered = node.attr["align_corners"].b, node.attr["half_pixel_centers"].b
    rows, columns = (
        tf.constant(_between(int(length), int(target), aligned, centered), images.dtype)
        for length, target in zip(given, wanted, strict=True)
    )
    found = tf.einsum("th,nhwc->ntwc", rows, images)
    return tf.cast(tf.einsum("sw,ntwc->ntsc", columns, found), tf.float32)


def _between(length: int, target: int, aligned: bool, centered: bool) -> Array:
    """The weights of `target` positions for each of `length`, shape (target, length)."""
    ratio = (length - 1) / (target - 1) if aligned and target > 1 else length / target
    places = np.arange(target) * ratio if not centered else (np.arange(target) + 0.5) * ratio - 0.5
    places = np.clip(places, 0, length - 1)
    first = np.floor(places).astype(int)
    weights = np.zeros((target, length))
    share = places - first
    weights[np.arange(target), first] += 1 - share
    weights[np.arange(target), np.minimum(first + 1, length - 1)] += share
    return weights


EXACT: Mapping[str, Rule] = {"ResizeBilinear": resized}
"""For the outputs in float64: TensorFlow's own kernel computes in float32"""

RULES: Mapping[str, Rule] = {"RGBToHSV": to_hsv, "HSVToRGB": to_rgb}
