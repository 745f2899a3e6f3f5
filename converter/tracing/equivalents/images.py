"""Operators on colours: between red, green, blue and hue, saturation, value."""

from __future__ import annotations

from collections.abc import Mapping

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


RULES: Mapping[str, Rule] = {"RGBToHSV": to_hsv, "HSVToRGB": to_rgb}
