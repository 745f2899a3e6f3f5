"""The Keras layer that makes of 8-bit RGB images of any size what a model takes: Pillow's resize, and the arithmetic.

Pillow resizes in two passes, each with coefficients of 22 bits and rounded to 8 bits again (`Resample.c`). The same is
computed here as two products of matrices in float64, which holds all of these integers exactly. Only TensorFlow's
functions are used, since the sizes are known when the model runs. Imported where Keras is loaded anyway.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from converter.core.foreign import KerasTensor, Tensor
from converter.data.preprocessing import Preprocessing
from converter.data.reading import rows_may_be_first

BITS = 2.0**22
SUPPORT = {"box": 0.5, "bilinear": 1.0, "bicubic": 2.0}
"""Half the width of each filter, in pixels"""


class Preprocess(keras.layers.Layer):  # type: ignore[misc]
    """uint8 (batch, any, any, 3) to float32 (batch, height, width, channels)."""

    def __init__(self, preprocessing: Preprocessing, size: tuple[int, int], name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.preprocessing, self.size = preprocessing, size

    def compute_output_spec(self, images: KerasTensor) -> KerasTensor:
        """The shape and type of the result."""
        channels = 1 if self.preprocessing.channels == "gray" else 3
        return keras.KerasTensor((images.shape[0], *self.size, channels), "float32")

    def call(self, images: Tensor) -> Tensor:
        """The inputs of the model."""
        pixels = tf.cast(
            tf.cast(images, tf.int32), tf.float64
        )  # an input that becomes float64 at once: a float64 model
        if self.preprocessing.channels == "gray":
            red, green, blue = (pixels[..., index : index + 1] for index in range(3))
            pixels = tf.floor((red * 19595.0 + green * 38470.0 + blue * 7471.0 + 32768.0) / 65536.0)
        pixels = self._resized(pixels)
        values = tf.cast(pixels, tf.float32)
        if self.preprocessing.channels == "bgr":
            values = tf.reverse(values, [-1])
        return self._scaled(values)

    def _scaled(self, values: Tensor) -> Tensor:
        how = self.preprocessing
        divisor = {"tf": 127.5, "torch": 255.0, "unit": 255.0}.get(how.mode)
        if divisor is not None:
            values = values / divisor
        elif how.mode == "custom":
            values = values * tf.constant(how.scale, tf.float32)
        if any(how.mean):
            values = values - tf.constant(how.mean, tf.float32)
        if any(each != 1.0 for each in how.std):
            values = values / tf.constant(how.std, tf.float32)
        return values

    def _resized(self, pixels: Tensor) -> Tensor:
        """`pixels` at the size of the input, whole numbers from 0 to 255 in float64."""
        resize = self.preprocessing.resize
        height, width = tf.shape(pixels)[1], tf.shape(pixels)[2]
        rows, columns = _places(height, width, self.size, resize.how)
        across, inner_columns = _coefficients(width, columns, self.size[1], resize.interpolation)
        down, inner_rows = _coefficients(height, rows, self.size[0], resize.interpolation)
        wide = _eight_bits(tf.matmul(tf.transpose(pixels, [0, 1, 3, 2]), across))  # batch, height, channels, columns
        whole = _eight_bits(tf.matmul(tf.transpose(wide, [0, 3, 2, 1]), down))  # batch, columns, channels, rows
        result = tf.transpose(whole, [0, 3, 1, 2])
        if rows_may_be_first():
            flat = _eight_bits(tf.matmul(tf.transpose(pixels, [0, 2, 3, 1]), down))  # batch, width, channels, rows
            other = _eight_bits(tf.matmul(tf.transpose(flat, [0, 3, 2, 1]), across))  # batch, rows, channels, columns
            lost = height - rows[2], width - columns[2]
            tall = (lost[0] > 0) & (lost[0] > 2 * lost[1])
            result = tf.where(tall, tf.transpose(other, [0, 1, 3, 2]), result)
        if resize.how == "pad" and resize.fill:
            inside = inner_rows[:, None, None] * inner_columns[None, :, None]
            result = result + (1.0 - inside) * float(resize.fill)
        return tf.ensure_shape(result, (None, *self.size, pixels.shape[-1]))


def _places(height: Tensor, width: Tensor, size: tuple[int, int], how: str) -> tuple[tuple[Tensor, ...], ...]:
    """For rows and columns: begin and end of what is used, how many result from it, and where they begin."""
    zero = tf.constant(0, tf.int32)
    if how == "crop":
        used = tf.minimum(height, width * size[0] // size[1]), tf.minimum(width, height * size[1] // size[0])
        starts = (height - used[0]) // 2, (width - used[1]) // 2
        return tuple(
            (start, start + count, tf.constant(wanted, tf.int32), zero)
            for start, count, wanted in zip(starts, used, size, strict=True)
        )
    if how == "stretch":
        return tuple(
            (zero, own, tf.constant(wanted, tf.int32), zero) for own, wanted in zip((height, width), size, strict=True)
        )
    own = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    factor = tf.minimum(size[1] / own[1], size[0] / own[0])
    found = []
    for number, length, wanted in zip((height, width), own, size, strict=True):
        inner = tf.cast(tf.clip_by_value(tf.round(length * factor), 1.0, float(wanted)), tf.int32)
        found.append((zero, number, inner, (wanted - inner) // 2))
    return tuple(found)


def _coefficients(count: Tensor, place: tuple[Tensor, ...], wanted: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """The matrix (count, wanted) of Pillow's coefficients, whole numbers in float64, and 1 for results that are inside.

    As `precompute_coeffs` and `normalize_coeffs_8bpc` compute them, one column for each result.
    """
    begin, end, inner, offset = (tf.cast(each, tf.float64) for each in place)
    index = tf.range(wanted, dtype=tf.float64) - offset
    inside = tf.cast((index >= 0.0) & (index < inner), tf.float64)
    scale = (end - begin) / inner
    wide = tf.maximum(scale, 1.0)
    centre = begin + (index + 0.5) * scale
    support = SUPPORT[interpolation] * wide
    low = tf.maximum(tf.floor(centre - support + 0.5), 0.0)
    high = tf.minimum(tf.floor(centre + support + 0.5), tf.cast(count, tf.float64))
    source = tf.cast(tf.range(count), tf.float64)[:, None]
    used = tf.cast((source >= low) & (source < high), tf.float64)
    weights = _filter((source - centre + 0.5) * (1.0 / wide), interpolation) * used
    sums = tf.reduce_sum(weights, axis=0)
    shares = weights / tf.where(sums == 0.0, tf.ones_like(sums), sums)
    scaled = shares * BITS
    rounded = tf.where(scaled < 0.0, -tf.floor(0.5 - scaled), tf.floor(scaled + 0.5))
    return rounded * inside, inside


def _filter(place: Tensor, interpolation: str) -> Tensor:
    distance = tf.abs(place)
    if interpolation == "box":
        return tf.cast((place > -0.5) & (place <= 0.5), tf.float64)
    if interpolation == "bilinear":
        return tf.maximum(1.0 - distance, 0.0)
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0  # -0.5 (((d - 5) d + 8) d - 4)
    return tf.where(distance < 1.0, near, tf.where(distance < 2.0, far, tf.zeros_like(far)))


def _eight_bits(sums: Tensor) -> Tensor:
    """What Pillow's `clip8` makes of a sum of pixels times coefficients."""
    return tf.minimum(tf.maximum(tf.floor((sums + BITS / 2.0) / BITS), 0.0), 255.0)
