"""A loop over the steps of a sequence, in operators that every format has: no tensor lists, any batch and any length.

Takes the place of Keras's own loop while a model is traced. Keras collects the outputs of the steps in a tensor list,
which TFLite refuses for a batch of any size. Here they are collected in one tensor, of which each step writes a row. A
short sequence of known length becomes no loop at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from converter.core.foreign import Tensor

UNROLLED = 16
"""Steps up to which a sequence of known length is written out: no loop, whose body an optimizer cannot look into."""

Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
"""(input of one step, states) to (output, new states), each of shape (batch, ...)"""


@dataclass(frozen=True)
class Steps:
    """What a loop computes: `outputs` of shape (steps, batch, ...) or None, the `last` output, and the final states.

    `swapped`: the outputs have shape (batch, steps, ...).
    """

    outputs: Tensor | None
    last: Tensor
    states: list[Tensor]
    swapped: bool = False


@dataclass(frozen=True)
class Mask:
    """`keep`, boolean, of shape (steps, batch): the steps that count. Any other step keeps the states.

    The output of such a step is the one before it, or with `zero` zeros; so is that of the first step.
    """

    keep: Tensor
    zero: bool = False


def iterate(
    step: Step,
    inputs: Tensor | list[Tensor],
    states: Sequence[Tensor],
    sequence: bool,
    mask: Mask | None = None,
    unroll: bool = False,
) -> Steps:
    """Run `step` over `inputs`, shape (steps, batch, ...), from the `states` on.

    All outputs are kept if `sequence` is true. With `unroll`, which needs a known number of steps, there is no loop;
    then `inputs` may be a list of what each step gets.
    """
    import tensorflow as tf

    start = list(states)
    first = tf.zeros_like(step(inputs[0], start)[0])  # only its shape and type are used
    if unroll or isinstance(inputs, list):
        pieces = inputs if isinstance(inputs, list) else tf.unstack(inputs)
        return _unrolled(step, pieces, start, sequence, mask, first)
    count = inputs.shape[0] if inputs.shape[0] is not None else tf.shape(inputs)[0]
    collected = [rows(inputs.shape[0], count, first)]
    carried = [first] if mask is not None or not sequence else []

    def body(time: Tensor, *variables: Tensor) -> tuple[Tensor, ...]:
        kept = list(variables[: len(collected)]) if sequence else []
        before = variables[len(kept) : len(kept) + len(carried)]
        old = list(variables[len(kept) + len(carried) :])
        output, new = _one(step, tf.gather(inputs, time), old, _at(mask, time), before)
        kept = [with_row(each, count, time, output) for each in kept]
        return (time + 1, *kept, *([output] if carried else []), *new)

    variables = [*(collected if sequence else []), *carried, *start]
    _, *results = tf.while_loop(lambda time, *_: tf.less(time, count), body, [tf.constant(0), *variables])
    outputs = results.pop(0) if sequence else None
    last = results.pop(0) if carried else outputs[-1]  # type: ignore[index]
    return Steps(outputs, last, results)


def rows(known: int | None, count: Tensor, like: Tensor) -> Tensor:
    """Zeros for `count` rows of the shape and type of `like`; `known` is the count if it is a number."""
    import tensorflow as tf

    size = tf.concat([tf.reshape(count, [1]), tf.shape(like)], axis=0)
    return tf.ensure_shape(tf.fill(size, tf.zeros([], like.dtype)), [known, *like.shape])


def with_row(collected: Tensor, count: Tensor, index: Tensor, row: Tensor) -> Tensor:
    """`collected`, which has `count` rows, with the row at `index` replaced.

    A choice between two tensors: every format has one, and not every format can write into a part of a tensor.
    """
    import tensorflow as tf

    here = tf.reshape(tf.equal(tf.range(count), index), [-1, *[1] * len(row.shape)])
    return tf.where(here, tf.expand_dims(row, 0), collected)


def _unrolled(
    step: Step, inputs: list[Tensor], states: list[Tensor], sequence: bool, mask: Mask | None, first: Tensor
) -> Steps:
    import tensorflow as tf

    outputs, output = [], first
    masks = [None] * len(inputs) if mask is None else tf.unstack(mask.keep)
    for given, keep in zip(inputs, masks, strict=True):
        masked = None if keep is None or mask is None else (keep, mask.zero)
        output, states = _one(step, given, states, masked, [output])
        outputs.append(output)
    return Steps(tf.stack(outputs, axis=1) if sequence else None, output, states, swapped=True)


def _at(mask: Mask | None, time: Tensor) -> tuple[Tensor, bool] | None:
    import tensorflow as tf

    return None if mask is None else (tf.gather(mask.keep, time), mask.zero)


def _one(
    step: Step, given: Tensor, states: list[Tensor], masked: tuple[Tensor, bool] | None, before: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """One step; `masked` has the samples that it counts for, shape (batch,), and whether the others yield zeros."""
    import tensorflow as tf

    output, new = step(given, states)
    if masked is None:
        return output, list(new)
    keep, zero = masked

    def chosen(one: Tensor, other: Tensor) -> Tensor:
        return tf.where(tf.reshape(keep, [-1, *[1] * (len(one.shape) - 1)]), one, other)

    previous = tf.zeros_like(output) if zero else before[0]
    return chosen(output, previous), [chosen(one, other) for one, other in zip(new, states, strict=True)]


def swapped(tensor: Tensor) -> Tensor:
    """(steps, batch, ...) to (batch, steps, ...), or the other way round."""
    import tensorflow as tf

    return tf.transpose(tensor, [1, 0, *range(2, len(tensor.shape))])
