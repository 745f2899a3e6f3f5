"""Functions of `keras.ops` in operators that every format has, while a model is traced.

Same arguments and results as Keras's own. `keras.ops.scan`, `map` and `switch` are in `.scans`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from converter.core.foreign import Tensor
from converter.tracing.scans import map_rows, scan, switch


@contextmanager
def plain_functions() -> Iterator[None]:
    """Within the context, `keras.ops` uses these functions, wherever a layer calls it."""
    from keras.src.backend import core, numpy

    replaced: tuple[tuple[object, Mapping[str, Callable[..., object]]], ...] = (
        (core, {"scan": scan, "map": map_rows, "switch": switch}),
        (numpy, {"argmax": partial(_extreme, True), "argmin": partial(_extreme, False), "roll": roll}),
    )
    before = [(module, {name: vars(module)[name] for name in functions}) for module, functions in replaced]
    for module, functions in replaced:
        vars(module).update(functions)
    try:
        yield
    finally:
        for module, functions in before:
            vars(module).update(functions)


def _extreme(largest: bool, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest or smallest value, the first one of several equal ones; see `keras.ops.argmax`.

    Keras reads the bits of its input to tell -0.0 from 0.0, which no other runtime does: here they are equal.
    """
    import tensorflow as tf

    given = tf.convert_to_tensor(x)
    values = tf.reshape(given, [-1]) if axis is None else given
    found = (tf.argmax if largest else tf.argmin)(values, axis=axis or 0, output_type=tf.int32)
    if keepdims:
        found = tf.reshape(found, [1] * len(given.shape)) if axis is None else tf.expand_dims(found, axis)
    return found


def roll(x: Tensor, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """`x` with what leaves at one end of an axis put at the other; see `keras.ops.roll`. Slices, joined again."""
    import tensorflow as tf

    given = tf.convert_to_tensor(x)
    if axis is None:
        return tf.reshape(roll(tf.reshape(given, [-1]), shift, 0), tf.shape(given))
    axes = [axis] if isinstance(axis, int) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    for place, distance in zip(axes, shifts, strict=True):
        place %= len(given.shape)
        size = given.shape[place] if given.shape[place] is not None else tf.shape(given)[place]
        cut = size - distance % size
        whole = [slice(None)] * place
        given = tf.concat([given[(*whole, slice(cut, None))], given[(*whole, slice(0, cut))]], axis=place)
    return given
