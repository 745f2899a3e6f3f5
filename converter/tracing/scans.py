"""`keras.ops.scan`, `map` and `switch` while a model is traced: without tensor lists and operators that formats lack.

Same arguments and results as Keras's own functions, in loops and conditions that every format has.
"""

from __future__ import annotations

from collections.abc import Callable

from converter.core.foreign import Tensor, TensorTree
from converter.tracing.loops import UNROLLED, rows, with_row


def scan(
    f: Callable[[TensorTree, TensorTree], tuple[TensorTree, TensorTree]],
    init: TensorTree,
    xs: TensorTree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[TensorTree, TensorTree]:
    """The last state, and what `f` returned for each row of `xs`, stacked; see `keras.ops.scan`."""
    import keras
    import tensorflow as tf

    given = [tf.convert_to_tensor(each) for each in keras.tree.flatten(xs)] if xs is not None else []
    state = [tf.convert_to_tensor(each) for each in keras.tree.flatten(init)]
    known = int(length) if length is not None else given[0].shape[0]
    count = known if known is not None else tf.shape(given[0])[0]

    def step(index: Tensor, flat: list[Tensor]) -> tuple[list[Tensor], TensorTree]:
        row = keras.tree.pack_sequence_as(xs, [tf.gather(each, index) for each in given]) if given else None
        new, result = f(keras.tree.pack_sequence_as(init, flat), row)
        return [tf.convert_to_tensor(each) for each in keras.tree.flatten(new)], result

    def found(outputs: list[Tensor], results: TensorTree) -> TensorTree:
        return None if results is None else keras.tree.pack_sequence_as(results, outputs)

    if known is not None and 0 < known <= UNROLLED:
        each: list[list[Tensor]] = []
        results: TensorTree = None
        for index in reversed(range(known)) if reverse else range(known):
            state, results = step(tf.constant(index), state)
            each.append([] if results is None else keras.tree.flatten(results))
        outputs = [tf.stack(list(column)) for column in zip(*(each[::-1] if reverse else each), strict=True)]
        return keras.tree.pack_sequence_as(init, state), found(outputs, results)

    shown = step(tf.constant(0), state)[1]  # only its structure, shapes and types are used
    first = [] if shown is None else [tf.convert_to_tensor(each) for each in keras.tree.flatten(shown)]

    def body(time: Tensor, *variables: Tensor) -> tuple[Tensor, ...]:
        index = count - 1 - time if reverse else time
        new, results = step(index, list(variables[len(first) :]))
        made = [] if results is None else keras.tree.flatten(results)
        kept = [with_row(old, count, index, row) for old, row in zip(variables, made, strict=False)]
        return (time + 1, *kept, *new)

    start = [tf.constant(0), *(rows(known, count, each) for each in first), *state]
    _, *ended = tf.while_loop(lambda time, *_: tf.less(time, count), body, start)
    return keras.tree.pack_sequence_as(init, ended[len(first) :]), found(ended[: len(first)], shown)


def map_rows(f: Callable[[TensorTree], TensorTree], xs: TensorTree) -> TensorTree:
    """What `f` returns for each row of `xs`, stacked; see `keras.ops.map`."""
    return scan(lambda state, row: (state, f(row)), [], xs)[1]


def switch(index: Tensor, branches: list[Callable[..., TensorTree]], *operands: TensorTree) -> TensorTree:
    """The result of the branch at `index`, clipped to those that there are; see `keras.ops.switch`."""
    import tensorflow as tf

    chosen = tf.convert_to_tensor(index)

    def branch(place: int) -> TensorTree:
        if place == len(branches) - 1:
            return branches[place](*operands)
        return tf.cond(tf.less_equal(chosen, place), lambda: branches[place](*operands), lambda: branch(place + 1))

    return branch(0)
