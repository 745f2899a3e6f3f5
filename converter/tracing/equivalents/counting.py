"""Operators that count, rank and pick: buckets, sorted bounds, the k largest, histograms, cumulative products."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule


def bucketize(node: NodeDef, x: Tensor) -> Tensor:
    """How many of the boundaries do not exceed each number, int32."""
    import tensorflow as tf

    boundaries = tf.constant(list(node.attr["boundaries"].list.f), tf.float32)
    values = x if x.dtype.is_floating else tf.cast(x, tf.float32)
    reached = values[..., tf.newaxis] >= tf.cast(boundaries, values.dtype)
    return tf.reduce_sum(tf.cast(reached, tf.int32), axis=-1)


def lower_bound(node: NodeDef, ordered: Tensor, values: Tensor) -> Tensor:
    """How many numbers of each row of `ordered`, shape (rows, n), are below each of `values`, shape (rows, m)."""
    import tensorflow as tf

    below = ordered[:, tf.newaxis, :] < values[:, :, tf.newaxis]
    return tf.reduce_sum(tf.cast(below, node.attr["out_type"].type), axis=-1)


def upper_bound(node: NodeDef, ordered: Tensor, values: Tensor) -> Tensor:
    """How many numbers of each row of `ordered`, shape (rows, n), do not exceed each of `values`, shape (rows, m)."""
    import tensorflow as tf

    below = ordered[:, tf.newaxis, :] <= values[:, :, tf.newaxis]
    return tf.reduce_sum(tf.cast(below, node.attr["out_type"].type), axis=-1)


def in_top_k(node: NodeDef, predictions: Tensor, targets: Tensor, k: Tensor) -> Tensor:
    """Whether fewer than `k` predictions of a row exceed that of its target; predictions have shape (rows, classes)."""
    import tensorflow as tf

    found = tf.gather(predictions, targets, axis=1, batch_dims=1)[:, tf.newaxis]
    larger = tf.reduce_sum(tf.cast(predictions > found, tf.int32), axis=1)
    return tf.less(larger, tf.cast(k, tf.int32))


def bincount(node: NodeDef, values: Tensor, size: Tensor, weights: Tensor) -> Tensor:
    """How often each of the numbers 0 to size - 1 is among `values`, in each row if there are rows."""
    import tensorflow as tf

    hits = tf.cast(tf.equal(values[..., tf.newaxis], tf.range(size)), weights.dtype)
    if node.attr["binary_output"].b:
        return tf.reduce_max(hits, axis=-2)
    if weights.shape.num_elements() != 0:
        hits *= weights[..., tf.newaxis]
    return tf.reduce_sum(hits, axis=-2)


def cumprod(node: NodeDef, x: Tensor, axis: Tensor) -> Tensor | None:
    """The product of all numbers up to each place, in as many steps as the length has binary digits."""
    import tensorflow as tf

    place = tf.get_static_value(axis)
    length = None if place is None or x.shape.rank is None else x.shape[int(place)]
    if length is None:
        return None
    place = int(place) % x.shape.rank
    result = tf.reverse(x, [place]) if node.attr["reverse"].b else x
    if node.attr["exclusive"].b:
        result = _moved(result, 1, place)
    step = 1
    while step < length:
        result = result * _moved(result, step, place)
        step *= 2
    return tf.reverse(result, [place]) if node.attr["reverse"].b else result


def _moved(x: Tensor, distance: int, axis: int) -> Tensor:
    """`x` moved towards the end of `axis`, with ones at its beginning."""
    import tensorflow as tf

    whole = [slice(None)] * axis
    ones = tf.ones_like(x[(*whole, slice(0, distance))])
    return tf.concat([ones, x[(*whole, slice(0, -distance))]], axis=axis)


def cross_entropy(node: NodeDef, logits: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss of each row, and its gradient: softmax minus the one-hot label."""
    import tensorflow as tf

    logarithms = tf.nn.log_softmax(logits)
    chosen = tf.gather(logarithms, labels, axis=1, batch_dims=1)
    count = logits.shape[-1] if logits.shape[-1] is not None else tf.shape(logits)[-1]
    return [-chosen, tf.exp(logarithms) - tf.one_hot(labels, count, dtype=logits.dtype)]


RULES: Mapping[str, Rule] = {
    "Bucketize": bucketize,
    "LowerBound": lower_bound,
    "UpperBound": upper_bound,
    "InTopKV2": in_top_k,
    "DenseBincount": bincount,
    "Cumprod": cumprod,
    "SparseSoftmaxCrossEntropyWithLogits": cross_entropy,
}
