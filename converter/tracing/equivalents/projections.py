"""Projective transforms of images: the place that each pixel comes from, then its neighbours there."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.equivalents.windows import sizes_of
from converter.tracing.lowering import Rule


def projected(node: NodeDef, images: Tensor, transforms: Tensor, size: Tensor, fill: Tensor) -> Tensor:
    """Pixel (x, y) of the result is that at ((a x + b y + c) / k, (d x + e y + f) / k) with k = g x + h y + 1.

    `images` have shape (batch, rows, columns, channels), `transforms` (batch or 1, 8) with a to h, `size` (2,). Places
    outside are `fill`, or taken from inside as the mode says, as TensorFlow's operator of this name does.
    """
    import tensorflow as tf

    rows, columns = (tf.cast(tf.range(size[axis]), transforms.dtype) for axis in (0, 1))
    y, x = rows[tf.newaxis, :, tf.newaxis], columns[tf.newaxis, tf.newaxis, :]
    a, b, c, d, e, f, g, h = (each[:, tf.newaxis, tf.newaxis] for each in tf.unstack(transforms, num=8, axis=1))
    k = g * x + h * y + 1.0
    _, height, width, _ = sizes_of(images)
    mode = node.attr["fill_mode"].s.decode() or "CONSTANT"
    across = _inside((a * x + b * y + c) / k, width, mode)
    down = _inside((d * x + e * y + f) / k, height, mode)
    count = sizes_of(images)[0]
    across, down = (each + tf.zeros([count, 1, 1], each.dtype) for each in (across, down))
    if node.attr["interpolation"].s == b"NEAREST":
        return _read(images, tf.round(down), tf.round(across), fill)
    top, left = tf.floor(down), tf.floor(across)
    below, beside = (down - top)[..., tf.newaxis], (across - left)[..., tf.newaxis]
    above = _read(images, top, left, fill) * (1.0 - beside) + _read(images, top, left + 1.0, fill) * beside
    under = _read(images, top + 1.0, left, fill) * (1.0 - beside) + _read(images, top + 1.0, left + 1.0, fill) * beside
    return above * (1.0 - below) + under * below


def _inside(place: Tensor, length: int | Tensor, mode: str) -> Tensor:
    """Places along an axis moved inside it, but for the mode CONSTANT."""
    import tensorflow as tf

    if mode == "CONSTANT":
        return place
    size = tf.cast(length, place.dtype)
    if mode == "REFLECT":
        turn = 2.0 * size
        low = turn * tf.floor(-place / turn) + place
        low = tf.where(low < -size, low + turn, -low - 1.0)
        high = place - turn * tf.floor(place / turn)
        high = tf.where(high >= size, turn - high - 1.0, high)
        place = tf.where(place < 0.0, low, tf.where(place > size - 1.0, high, place))
    elif mode == "WRAP":
        last = tf.maximum(size - 1.0, 1.0)
        low = place + size * (tf.floor(-place / last) + 1.0)
        high = place - size * tf.floor(place / last)
        place = tf.where(place < 0.0, low, tf.where(place > size - 1.0, high, place))
    return tf.clip_by_value(place, 0.0, size - 1.0)


def _read(images: Tensor, row: Tensor, column: Tensor, fill: Tensor) -> Tensor:
    """The pixels at whole places, shape (batch, rows, columns, channels); `fill` where there is none."""
    import tensorflow as tf

    _, height, width, channels = sizes_of(images)
    flat = tf.reshape(images, [-1, height * width, channels])
    last = [tf.cast(each, row.dtype) - 1.0 for each in (height, width)]
    inside = (row >= 0.0) & (row <= last[0]) & (column >= 0.0) & (column <= last[1])
    nearest = [tf.clip_by_value(each, 0.0, end) for each, end in zip((row, column), last, strict=True)]
    index = tf.cast(nearest[0] * tf.cast(width, row.dtype) + nearest[1], tf.int32)
    return tf.where(inside[..., tf.newaxis], tf.gather(flat, index, axis=1, batch_dims=1), fill)


RULES: Mapping[str, Rule] = {"ImageProjectiveTransformV3": projected}
