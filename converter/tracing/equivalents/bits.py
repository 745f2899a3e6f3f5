"""Operators on the bits of integers, as arithmetic on their digits of base two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule

Combination = Callable[[Tensor, Tensor], Tensor]
"""Of digits 0 and 1, to such digits"""


def _combined(combine: Combination, node: NodeDef, x: Tensor, y: Tensor) -> Tensor | None:
    """The integer of the combined digits of `x` and `y`; unsigned ones of 32 bits and all of 64 bits are declined."""
    import tensorflow as tf

    size = 8 * x.dtype.size
    if size > 32 or (size == 32 and x.dtype.is_unsigned):
        return None
    digits = combine(*(_digits(tf.cast(each, tf.int32)) for each in (x, y)))
    powers = [2**place for place in range(31)] + [-(2**31)]
    return tf.cast(tf.reduce_sum(digits * tf.constant(powers, tf.int32), axis=-1), x.dtype)


def _digits(x: Tensor) -> Tensor:
    """The 32 digits of a two's complement along a new last axis, the lowest first; the last one is that of the sign."""
    import tensorflow as tf

    powers = tf.constant([2**place for place in range(31)], tf.int32)
    positive = tf.where(x < 0, (x + tf.int32.max) + 1, x)
    shifted = tf.raw_ops.Div(x=positive[..., tf.newaxis], y=powers)
    digits = shifted - 2 * tf.raw_ops.Div(x=shifted, y=tf.constant(2))
    return tf.concat([digits, tf.cast(x < 0, tf.int32)[..., tf.newaxis]], axis=-1)


def _invert(node: NodeDef, x: Tensor) -> Tensor:
    """-1 - x, or the largest number minus x where there is no sign."""
    return x.dtype.max - x if x.dtype.is_unsigned else -1 - x


def _left_shift(node: NodeDef, x: Tensor, places: Tensor) -> Tensor | None:
    """x times a power of two, taken from a table."""
    import tensorflow as tf

    size = 8 * x.dtype.size
    if x.dtype.is_unsigned or size < 32:
        return None
    powers = [2**place for place in range(size - 1)] + [x.dtype.min]
    return x * tf.gather(tf.constant(powers, x.dtype), tf.cast(places, tf.int32))


RULES: Mapping[str, Rule] = {
    "BitwiseAnd": partial(_combined, lambda x, y: x * y),
    "BitwiseOr": partial(_combined, lambda x, y: x + y - x * y),
    "BitwiseXor": partial(_combined, lambda x, y: x + y - 2 * x * y),
    "Invert": _invert,
    "LeftShift": _left_shift,
}
