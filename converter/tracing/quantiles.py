"""Quantiles of `keras.ops` over axes of known sizes: the places and their weights are constants.

Keras computes the places in float64 while the model runs, which TFLite has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from converter.core.data import Array
from converter.core.foreign import Tensor


def quantile(
    original: Callable[..., Tensor],
    x: Tensor,
    q: Tensor,
    axis: Sequence[int] | None = None,
    method: str = "linear",
    keepdims: bool = False,
) -> Tensor:
    """Keras's function behind `keras.ops.quantile`, `percentile` and `median`; `original` where a size is unknown.

    The result has the shape of `q`, then that of `x` without `axis`, of which `keepdims` keeps ones.
    """
    import tensorflow as tf

    wanted = tf.get_static_value(tf.convert_to_tensor(q))
    rank = x.shape.rank
    axes = list(range(rank)) if axis is None else sorted(each % rank for each in axis)
    if wanted is None or None in [x.shape[each] for each in axes]:
        return original(x, q, axis=axis, method=method, keepdims=keepdims)
    others = [each for each in range(rank) if each not in axes]
    count = math.prod(int(x.shape[each]) for each in axes)
    leading = [tf.shape(x)[each] if x.shape[each] is None else x.shape[each] for each in others]
    flat = tf.reshape(tf.transpose(x, [*others, *axes]), [*leading, count])
    ordered = tf.sort(flat, axis=-1)
    places, weights = _places(np.asarray(wanted, np.float64), count, method)
    found = tf.add_n([tf.gather(ordered, each, axis=-1) * weight for each, weight in zip(places, weights, strict=True)])
    broken = tf.reduce_any(tf.math.is_nan(flat), axis=-1)
    for _ in range(np.ndim(wanted)):
        broken = broken[..., tf.newaxis]
        found = tf.transpose(found, [found.shape.rank - 1, *range(found.shape.rank - 1)])
        broken = tf.transpose(broken, [broken.shape.rank - 1, *range(broken.shape.rank - 1)])
    result = tf.where(broken, tf.constant(math.nan, found.dtype), found)
    if keepdims:
        for each in axes:
            result = tf.expand_dims(result, each + np.ndim(wanted))
    return result


def percentile(
    original: Callable[..., Tensor], x: Tensor, q: Tensor | float, *rest: object, **options: object
) -> Tensor:
    """See `keras.ops.percentile`: percents that are known are divided by 100 once, in float32 as Keras does."""
    from keras.src.backend import numpy

    if isinstance(q, (int, float, list, tuple, np.ndarray)):
        return numpy.quantile(x, np.asarray(q, np.float32) / np.float32(100.0), *rest, **options)
    return original(x, q, *rest, **options)


def _places(wanted: Array, count: int, method: str) -> tuple[list[Array], list[Array]]:
    """Which of `count` ordered values make up each quantile, and their weights, as Keras rounds them."""
    exact = (count - 1) * wanted
    low, high = (np.clip(each(exact), 0, count - 1).astype(np.int32) for each in (np.floor, np.ceil))
    if method in ("lower", "higher", "nearest"):
        chosen = {"lower": low, "higher": high, "nearest": np.round(exact).astype(np.int32)}[method]
        return [chosen], [np.ones(wanted.shape, np.float32)]
    if method == "midpoint":
        return [low, high], [np.full(wanted.shape, 0.5, np.float32)] * 2
    below = np.maximum(high - 1, 0)
    above = np.minimum(below + 1, count - 1)
    fraction = (above - exact).astype(np.float32)
    return [above, below], [1 - fraction, fraction]
