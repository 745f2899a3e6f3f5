"""Operators around sparse results: scattered sums, decoded label sequences, broadcast shapes, empty tensors."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule


def scatter(node: NodeDef, indices: Tensor, updates: Tensor, shape: Tensor) -> Tensor:
    """Sums of the updates of each place, added to zeros: ONNX's operator of this name keeps one of them."""
    import tensorflow as tf

    return tf.tensor_scatter_nd_add(tf.zeros(shape, updates.dtype), indices, updates)


def broadcast_shapes(node: NodeDef, first: Tensor, second: Tensor) -> Tensor | None:
    """The shape that two shapes broadcast to: at each axis the one that is not 1."""
    import tensorflow as tf

    if first.shape.rank != 1 or None in (first.shape[0], second.shape[0]):
        return None
    rank = max(int(first.shape[0]), int(second.shape[0]))
    padded = [tf.concat([tf.ones([rank - each.shape[0]], each.dtype), each], 0) for each in (first, second)]
    return tf.where(tf.equal(padded[0], 1), padded[1], padded[0])


def empty(node: NodeDef, shape: Tensor) -> Tensor:
    """Zeros: what is not initialized may be anything."""
    import tensorflow as tf

    return tf.zeros(shape, tf.as_dtype(node.attr["dtype"].type))


def greedy_decoder(node: NodeDef, logits: Tensor, lengths: Tensor) -> list[Tensor]:
    """The likeliest label of each step without blanks and, if asked for, without repetitions.

    `logits` have shape (steps, batch, classes), `lengths` (batch,). Returns a sparse tensor, shape (batch, longest), as
    its indices, values and shape in int64, and the negative sum of the largest logits, shape (batch, 1).
    """
    import tensorflow as tf

    steps, batch = (logits.shape[axis] if logits.shape[axis] is not None else tf.shape(logits)[axis] for axis in (0, 1))
    classes = logits.shape[-1] if logits.shape[-1] is not None else tf.shape(logits)[-1]
    blank = node.attr["blank_index"].i if "blank_index" in node.attr else -1
    blank = blank if blank >= 0 else classes + blank
    labels = tf.transpose(tf.argmax(logits, axis=-1, output_type=tf.int32))
    valid = tf.range(steps)[tf.newaxis, :] < lengths[:, tf.newaxis]
    kept = tf.logical_and(valid, tf.not_equal(labels, blank))
    if node.attr["merge_repeated"].b:
        before = tf.concat([tf.fill([batch, 1], -1), labels[:, :-1]], axis=1)
        kept = tf.logical_and(kept, tf.not_equal(labels, before))
    counts = tf.cast(kept, tf.int32)
    found = tf.where(kept)
    place = tf.gather_nd(tf.cumsum(counts, axis=1) - 1, found)
    indices = tf.stack([found[:, 0], tf.cast(place, tf.int64)], axis=1)
    values = tf.cast(tf.gather_nd(labels, found), tf.int64)
    longest = tf.reduce_max(tf.reduce_sum(counts, axis=1))
    shape = tf.cast(tf.stack([batch, longest]), tf.int64)
    largest = tf.transpose(tf.reduce_max(logits, axis=-1))
    score = -tf.reduce_sum(tf.where(valid, largest, tf.zeros_like(largest)), axis=1, keepdims=True)
    return [indices, values, shape, score]


RULES: Mapping[str, Rule] = {
    "BroadcastArgs": broadcast_shapes,
    "CTCGreedyDecoder": greedy_decoder,
    "Empty": empty,
    "ScatterNd": scatter,
}
