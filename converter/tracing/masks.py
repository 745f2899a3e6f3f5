"""A mask of steps, for recurrent operators that only know how many steps of each sample are valid, from the first on.

The valid steps are moved together before such an operator, in their order, and its outputs are spread again after it.
That is exact for any mask: a step that does not count leaves the states as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.core.foreign import Tensor
from converter.tracing.loops import swapped


@dataclass(frozen=True)
class Moved:
    """How the valid steps of a mask are moved to the front: `order`, `source`, shape (batch, steps); `count`, (batch,).

    `order` has the steps to take, `source` for each step of the mask the moved step whose output stands there: its own,
    or the one that was computed before it (-1 or less, or `count` or more: none).
    """

    order: Tensor
    source: Tensor
    count: Tensor

    @classmethod
    def of(cls, keep: Tensor, reverse: bool) -> Moved:
        """`keep` has shape (batch, steps) or (batch, steps, 1)."""
        import tensorflow as tf

        valid = tf.cast(tf.reshape(keep, tf.shape(keep)[:2]), tf.int32)
        valid = tf.ensure_shape(valid, keep.shape[:2])
        steps = valid.shape[1] if valid.shape[1] is not None else tf.shape(valid)[1]
        order = tf.math.top_k(valid * steps - tf.range(steps), k=steps).indices
        before = tf.cumsum(valid, axis=1)
        return cls(order, before - valid if reverse else before - 1, tf.reduce_sum(valid, axis=1))

    def spread(self, outputs: Tensor, keep: Tensor, zero: bool) -> Tensor:
        """`outputs`, shape (steps, batch, units), at the steps of the mask; other steps repeat one, or are zero."""
        import tensorflow as tf

        found = tf.logical_and(self.source >= 0, self.source < self.count[:, None])
        if zero:
            found = tf.reshape(keep, tf.shape(self.source))
        rows = tf.gather(swapped(outputs), tf.where(found, self.source, tf.zeros_like(self.source)), batch_dims=1)
        return swapped(tf.where(tf.expand_dims(found, 2), rows, tf.zeros_like(rows)))
