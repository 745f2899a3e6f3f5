"""A mask of steps, for recurrent operators that know of none.

The valid steps are moved together before such an operator, and its outputs are spread again after it. That is exact for
any mask: a step that does not count leaves the states as they are. The lengths that ONNX's operators take are not used:
OpenVINO returns other final states with them.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.core.foreign import DType, Tensor
from converter.tracing.loops import swapped


@dataclass(frozen=True)
class Moved:
    """How the valid steps of a mask are moved to the front: `order`, `source`, shape (batch, steps); `count`, (batch,).

    `order` has the steps in the order in which they are taken. `source` has for each step of the mask where its output
    stands afterwards: that of the step itself, if it is `valid`, otherwise that of the one taken before it; -1: none.
    """

    order: Tensor
    source: Tensor
    count: Tensor
    valid: Tensor

    @classmethod
    def of(cls, keep: Tensor, backwards: bool) -> Moved:
        """`keep` has shape (batch, steps) or (batch, steps, 1); with `backwards` the last valid step is the first."""
        import tensorflow as tf

        mask = tf.ensure_shape(tf.reshape(keep, tf.shape(keep)[:2]), keep.shape[:2])
        valid = tf.cast(mask, tf.int32)
        steps = valid.shape[1] if valid.shape[1] is not None else tf.shape(valid)[1]
        place = tf.range(steps)
        order = tf.math.top_k(valid * steps + (place if backwards else -place), k=steps).indices
        count, until = tf.reduce_sum(valid, axis=1), tf.cumsum(valid, axis=1)
        taken = tf.expand_dims(count, 1) - until + valid if backwards else until
        return cls(order, taken - 1, count, mask)

    def gathered(self, inputs: Tensor) -> Tensor:
        """`inputs`, shape (steps, batch, features), in their new order."""
        import tensorflow as tf

        return swapped(tf.gather(swapped(inputs), self.order, batch_dims=1))

    def left_out(self, dtype: DType) -> Tensor:
        """1 at the moved steps that are not valid, 0 at those that are; shape (steps, batch, 1)."""
        import tensorflow as tf

        place = tf.range(tf.shape(self.source)[1])
        return tf.expand_dims(tf.cast(tf.expand_dims(place, 1) >= tf.expand_dims(self.count, 0), dtype), 2)

    def last(self, outputs: Tensor, otherwise: Tensor) -> Tensor:
        """The output of the last valid step, shape (batch, units); `otherwise` for samples that have none."""
        import tensorflow as tf

        column = tf.expand_dims(self.count, 1)
        rows = tf.gather(swapped(outputs), tf.maximum(column - 1, 0), batch_dims=1)
        return tf.where(column > 0, tf.squeeze(rows, 1), otherwise)

    def spread(self, outputs: Tensor, zero: bool) -> Tensor:
        """`outputs`, shape (steps, batch, units), at the steps of the mask; others repeat one, or are zero."""
        import tensorflow as tf

        found = self.valid if zero else self.source >= 0
        rows = tf.gather(swapped(outputs), tf.maximum(self.source, 0), batch_dims=1)
        return swapped(tf.where(tf.expand_dims(found, 2), rows, tf.zeros_like(rows)))
