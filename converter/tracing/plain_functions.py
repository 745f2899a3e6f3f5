"""Functions of `keras.ops` in operators that every format has, while a model is traced.

Same arguments and results as Keras's own. `keras.ops.scan`, `map` and `switch` are in `.scans`, Fourier
transforms in `.fourier`, quantiles in `.quantiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from converter.core.data import Array
from converter.core.foreign import Tensor
from converter.tracing.fourier import by_name, transforms
from converter.tracing.quantiles import percentile, quantile
from converter.tracing.scans import map_rows, scan, switch


@contextmanager
def plain_functions() -> Iterator[None]:
    """Within the context, `keras.ops` uses these functions, wherever a layer calls it."""
    from keras.src.backend import core, image, math, nn, numpy

    replaced: tuple[tuple[object, Mapping[str, Callable[..., object]]], ...] = (
        (core, {"scan": scan, "map": map_rows, "switch": switch}),
        (numpy, {"argmax": partial(_extreme, True), "argmin": partial(_extreme, False), "roll": roll}),
        (numpy, {"signbit": _negative, "_quantile": partial(quantile, numpy._quantile)}),
        (numpy, {"percentile": partial(percentile, numpy.percentile)}),
        (nn, {"conv": partial(_convolution, nn.conv)}),
        (math, transforms(partial(getattr, math))),
        (image, {"resize": partial(resize, image.resize)}),
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


def _negative(x: Tensor) -> Tensor:
    """Whether each number is negative, or the zero that is; see `keras.ops.signbit`. No bits are read."""
    import tensorflow as tf

    given = tf.convert_to_tensor(x)
    if not given.dtype.is_floating:
        return tf.zeros_like(given, tf.bool) if given.dtype.is_bool else given < 0
    zero = tf.equal(given, 0.0)
    return tf.logical_or(given < 0.0, tf.logical_and(zero, 1.0 / given < 0.0))


def _convolution(
    original: Callable[..., Tensor], inputs: Tensor, kernel: Tensor, *rest: object, **named: object
) -> Tensor:
    """See `keras.ops.conv`: over three axes, each group on its own, as TensorFlow's kernel for a CPU has no groups."""
    import keras
    import tensorflow as tf

    form = by_name(original, inputs, kernel, *rest, **named)["data_format"] or keras.config.image_data_format()
    axis = -1 if form == "channels_last" else 1
    given, depth = tf.convert_to_tensor(inputs), kernel.shape[-2]
    if given.shape.rank != 5 or given.shape[axis] == depth:
        return original(inputs, kernel, *rest, **named)
    groups = given.shape[axis] // depth
    pairs = zip(tf.split(given, groups, axis), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([original(each, part, *rest, **named) for each, part in pairs], axis=axis)


MATRICES = ("bicubic", "lanczos3", "lanczos5", "area")
"""Interpolations that some format lacks, or computes with other weights"""


def resize(original: Callable[..., Tensor], images: Tensor, size: Sequence[int], **options: object) -> Tensor:
    """`keras.ops.image.resize`: between two known sizes a product with two constant matrices, where formats need it.

    Such an interpolation is linear and separable: each row of the result is a weighted sum of rows, then each column of
    columns. The weights are what `original`, TensorFlow's own, makes of an image with a single one. Not for aspect
    ratios that are kept, and for bilinear and nearest interpolation only if it is antialiased.
    """
    import tensorflow as tf

    given = tf.convert_to_tensor(images)
    kind, antialias = options.get("interpolation", "bilinear"), bool(options.get("antialias"))
    kept = options.get("crop_to_aspect_ratio") or options.get("pad_to_aspect_ratio")
    first = options.get("data_format") == "channels_first"
    known = given.shape[-2:] if first else given.shape[-3:-1]
    wanted = (kind in MATRICES or (antialias and kind != "nearest")) and not kept and given.dtype.is_floating
    if not wanted or None in known or len(given.shape) not in (3, 4):
        return original(images, size, **options)
    rows, columns = (
        tf.constant(_weights(length, int(target), str(kind), antialias), given.dtype)
        for length, target in zip(known, size, strict=True)
    )
    if first:
        return tf.matmul(tf.matmul(rows, given), columns, transpose_b=True)
    height, width, channels = given.shape[-3:]
    wide = tf.reshape(given, [-1, height, width * channels])
    tall = tf.reshape(tf.matmul(rows, wide), [-1, width, channels])
    return tf.reshape(tf.matmul(columns, tall), [*_batch(given), int(size[0]), int(size[1]), channels])


def _batch(images: Tensor) -> list[int]:
    return [] if len(images.shape) == 3 else [-1 if images.shape[0] is None else images.shape[0]]


def _weights(length: int, target: int, kind: str, antialias: bool) -> Array:
    """The weights of `target` positions for each of `length`, shape (target, length), as TensorFlow computes them."""
    import tensorflow as tf

    with tf.init_scope():
        single = tf.eye(length)[None, :, None, :]  # one image, as high as long, one pixel wide, with a channel for each
        return np.asarray(tf.image.resize(single, (target, 1), method=kind, antialias=antialias)[0, :, 0])
