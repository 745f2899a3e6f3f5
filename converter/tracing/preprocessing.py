"""Preprocessing layers that are traced with another `call`: a condition or a table becomes operators on whole tensors.

The rules are of the kind that `converter.tracing.calls` describes.
"""

from __future__ import annotations

import numpy as np

from converter.core.foreign import KerasLayer, Tensor
from converter.tracing.calls import Call

LARGEST_TABLE = 1 << 16
"""Entries of a table that every value is compared with."""


def padded_resizing(layer: KerasLayer) -> Call | None:
    """A Resizing with `pad_to_aspect_ratio`: Keras pads one of the two axes, in conditions; here both, one by zero.

    Shapes are (batch, height, width, channels). None for other layers and channels-first data.
    """
    import keras
    import tensorflow as tf

    if type(layer) is not keras.layers.Resizing or not layer.pad_to_aspect_ratio:
        return None
    if layer.data_format != "channels_last":
        return None
    original = layer.call

    def call(inputs: Tensor, training: bool | None = None) -> Tensor:
        if isinstance(inputs, dict) or inputs.shape.rank != 4:
            return original(inputs)
        height, width = _free_margin(inputs, layer.height, layer.width)
        paddings = [[0, 0], [height, height], [width, width], [0, 0]]
        padded = tf.pad(inputs, paddings, constant_values=tf.cast(layer.fill_value, inputs.dtype))
        if None in padded.shape[1:3]:  # TensorFlow then forgets the number of channels too
            padded = tf.reshape(padded, tf.stack([*tf.unstack(tf.shape(padded))[:3], inputs.shape[3]]))
        layer.pad_to_aspect_ratio = False
        try:
            return original(padded)
        finally:
            layer.pad_to_aspect_ratio = True

    return call


def _free_margin(images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What Keras pads on either side of both axes so that `images` get the ratio of `height` to `width`.

    Its arithmetic, in float32 and cut to whole numbers, decides about a pixel; numbers where the size is known.
    """
    import tensorflow as tf

    known = images.shape[1:3].is_fully_defined()
    shape = tf.constant(images.shape[1:3].as_list()) if known else tf.shape(images)[1:3]

    def margin(own: Tensor, other: Tensor, target: int, other_target: int) -> Tensor:
        wanted = tf.cast(tf.cast(other * target, "float32") / other_target, "int32")
        return tf.cast(tf.cast(tf.maximum(own, wanted) - own, "float32") / 2, "int32")

    found = (margin(shape[0], shape[1], height, width), margin(shape[1], shape[0], width, height))
    values = tuple(tf.get_static_value(each) for each in found)
    return (int(values[0]), int(values[1])) if known and None not in values else found


def compared_lookup(layer: KerasLayer) -> Call | None:
    """A lookup layer whose table is a comparison of every value with every key; None for other layers and large tables.

    A graph cannot hold the table itself, which is an object of TensorFlow's runtime.
    """
    import keras
    import tensorflow as tf

    if not isinstance(layer, keras.layers.IntegerLookup | keras.layers.StringLookup):
        return None
    table = getattr(layer, "lookup_table", None)
    if table is None or not hasattr(table, "export") or int(table.size()) not in range(1, LARGEST_TABLE):
        return None
    keys, values = (np.asarray(each.numpy()) for each in table.export())
    default = np.asarray(table._default_value.numpy())
    original = layer.call

    class Compared:
        """Has what the layers use of a tf.lookup.StaticHashTable."""

        def lookup(self, inputs: Tensor) -> Tensor:
            same = tf.equal(inputs[..., None], tf.constant(keys))
            if values.dtype.kind in "iu":
                chosen = tf.reduce_sum(tf.where(same, tf.constant(values), tf.zeros_like(values)), axis=-1)
            else:
                chosen = tf.gather(tf.constant(values), tf.argmax(tf.cast(same, "int32"), axis=-1))
            found = tf.reduce_max(tf.cast(same, "int32"), axis=-1) > 0  # not every format has a logical reduction
            return tf.where(found, chosen, tf.constant(default))

    def call(inputs: Tensor) -> Tensor:
        layer.lookup_table = Compared()
        try:
            return original(inputs)
        finally:
            layer.lookup_table = table

    return call
