"""Operators that move a window: pooling over three axes, patches of an image, blocks of three axes, updated slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule


def sizes_of(x: Tensor) -> list[int | Tensor]:
    """The size of each axis of `x`, as a number where it is known."""
    import tensorflow as tf

    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]


def _pooled(operator: str, node: NodeDef, x: Tensor) -> Tensor | None:
    """Pooling over depth, height and width as one over height and width, then one over depth.

    A maximum of maxima is the maximum; a mean over both is the mean of means, also at the edges, where each axis leaves
    out its own padding. `x` has shape (batch, depth, height, width, channels).
    """
    import tensorflow as tf

    window, strides = (list(node.attr[name].list.i) for name in ("ksize", "strides"))
    if node.attr["data_format"].s not in (b"", b"NDHWC") or window[0] != 1 or window[4] != 1:
        return None
    padding = node.attr["padding"].s.decode()
    pool = tf.nn.max_pool2d if operator == "max" else tf.nn.avg_pool2d
    _, depth, height, width, channels = sizes_of(x)
    flat = pool(tf.reshape(x, [-1, height, width, channels]), window[2:4], strides[2:4], padding)
    _, rows, columns, _ = sizes_of(flat)
    deep = pool(tf.reshape(flat, [-1, depth, rows * columns, channels]), [window[1], 1], [strides[1], 1], padding)
    layers = sizes_of(deep)[1]
    return tf.reshape(deep, [-1, layers, rows, columns, channels])


def patches(node: NodeDef, images: Tensor) -> Tensor | None:
    """The patches of each image side by side in the channels: one strided slice for each place of the window."""
    import tensorflow as tf

    window, strides, rates = (list(node.attr[name].list.i)[1:3] for name in ("ksizes", "strides", "rates"))
    sizes = images.shape[1:3]
    if None in sizes:
        return None
    reach = [rate * (size - 1) + 1 for size, rate in zip(window, rates, strict=True)]
    steps = zip(sizes, strides, reach, strict=True)
    if node.attr["padding"].s == b"SAME":
        counts = [-(-size // stride) for size, stride, _ in steps]
        missing = [
            max((count - 1) * stride + length - size, 0)
            for count, stride, length, size in zip(counts, strides, reach, sizes, strict=True)
        ]
        images = tf.pad(images, [[0, 0], *([each // 2, each - each // 2] for each in missing), [0, 0]])
    else:
        counts = [(size - length) // stride + 1 for size, stride, length in steps]
    found = []
    for row in range(window[0]):
        for column in range(window[1]):
            begin = (row * rates[0], column * rates[1])
            rows, columns = (
                slice(first, first + (count - 1) * stride + 1, stride)
                for first, count, stride in zip(begin, counts, strides, strict=True)
            )
            found.append(images[:, rows, columns])
    return tf.concat(found, axis=-1)


def to_batch(node: NodeDef, x: Tensor, block: Tensor, paddings: Tensor) -> Tensor | None:
    """Blocks of three axes moved into the batch, one axis after the other, the last one first."""
    import tensorflow as tf

    lengths, pads = tf.get_static_value(block), tf.get_static_value(paddings)
    if lengths is None or pads is None or len(lengths) < 3:
        return None
    rank = x.shape.rank
    x = tf.pad(x, [[0, 0], *(list(map(int, each)) for each in pads), *[[0, 0]] * (rank - 1 - len(lengths))])
    for place in reversed(range(len(lengths))):
        length = int(lengths[place])
        if length == 1:
            continue
        sizes = sizes_of(x)
        before, size, after = sizes[1 : place + 1], sizes[place + 1], sizes[place + 2 :]
        parts = tf.reshape(x, [-1, _product(before), size // length, length, _product(after)])
        parts = tf.transpose(parts, [3, 0, 1, 2, 4])
        x = tf.reshape(parts, [-1, *before, size // length, *after])
    return x


def from_batch(node: NodeDef, x: Tensor, block: Tensor, crops: Tensor) -> Tensor | None:
    """Blocks of three axes taken out of the batch, one axis after the other, the first one first."""
    import tensorflow as tf

    lengths, cuts = tf.get_static_value(block), tf.get_static_value(crops)
    if lengths is None or cuts is None or len(lengths) < 3:
        return None
    for place, length in enumerate(map(int, lengths)):
        if length == 1:
            continue
        batch, *sizes = sizes_of(x)
        before, size, after = sizes[:place], sizes[place], sizes[place + 1 :]
        parts = tf.reshape(x, [length, batch // length, _product(before), size, _product(after)])
        parts = tf.transpose(parts, [1, 2, 3, 0, 4])
        x = tf.reshape(parts, [-1, *before, size * length, *after])
    batch, *sizes = sizes_of(x)
    whole = [slice(None)]
    for (first, last), size in zip(cuts, sizes, strict=False):
        whole.append(slice(int(first), size - int(last)))
    return x[tuple(whole)]


def update_slice(node: NodeDef, x: Tensor, update: Tensor, start: Tensor) -> Tensor | None:
    """`x` with `update` from `start` on, which is moved back where it would reach beyond the end."""
    import tensorflow as tf

    if None in x.shape or None in update.shape:
        return None
    inside = tf.constant(True)
    for axis, (size, length) in enumerate(zip(x.shape, update.shape, strict=True)):
        first = tf.clip_by_value(tf.cast(start[axis], tf.int32), 0, size - length)
        places = tf.range(size) - first
        update = tf.gather(update, tf.clip_by_value(places, 0, length - 1), axis=axis)
        within = tf.logical_and(places >= 0, places < length)
        inside = tf.logical_and(
            inside, tf.reshape(within, [size if each == axis else 1 for each in range(x.shape.rank)])
        )
    return tf.where(inside, update, x)


def _product(sizes: Sequence[int | Tensor]) -> int | Tensor:
    result: int | Tensor = 1
    for size in sizes:
        result = result * size
    return result


RULES: Mapping[str, Rule] = {
    "MaxPool3D": partial(_pooled, "max"),
    "AvgPool3D": partial(_pooled, "mean"),
    "ExtractImagePatches": patches,
    "SpaceToBatchND": to_batch,
    "BatchToSpaceND": from_batch,
    "XlaDynamicUpdateSlice": update_slice,
}
