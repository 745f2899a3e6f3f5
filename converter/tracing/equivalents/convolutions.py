"""Transposed convolutions: as plain ones where a format lacks dilation, and without what no input pixel reaches."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.equivalents.windows import sizes_of
from converter.tracing.lowering import Rule, output_shape


def transposed(node: NodeDef, size: Tensor, kernel: Tensor, x: Tensor) -> Tensor | None:
    """A dilated transposed convolution over two axes, channels last; `kernel` has shape (rows, columns, out, in).

    An output pixel sums input pixels that the forward convolution would take it to: they lie `stride` apart, so zeros
    are put between them, and the kernel is read from its end.
    """
    import tensorflow as tf

    strides, rates = (list(node.attr[name].list.i)[1:3] for name in ("strides", "dilations"))
    last = node.attr["data_format"].s in (b"", b"NHWC")
    if not last or (len(rates) < 2 or rates == [1, 1]) or None in kernel.shape or None in x.shape[1:]:
        return None
    wanted = output_shape(node)[1:3]
    if len(wanted) != 2 or -1 in wanted:
        return None
    x = _spread(x, strides)
    pads = []
    for axis in (0, 1):
        reach = rates[axis] * (int(kernel.shape[axis]) - 1) + 1
        given = (x.shape[axis + 1] - 1) // strides[axis] + 1
        # of the forward convolution, from `wanted` to `given` pixels
        around = 0
        if node.attr["padding"].s == b"SAME":
            around = max((given - 1) * strides[axis] + reach - wanted[axis], 0)
        first = reach - 1 - around // 2
        pads.append([first, wanted[axis] + reach - 1 - first - int(x.shape[axis + 1])])
    x = tf.pad(x, [[0, 0], *([max(each, 0) for each in pad] for pad in pads), [0, 0]])
    cut = [[max(-each, 0) for each in pad] for pad in pads]
    x = x[:, cut[0][0] : int(x.shape[1]) - cut[0][1], cut[1][0] : int(x.shape[2]) - cut[1][1]]
    turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    return tf.nn.conv2d(x, turned, 1, "VALID", dilations=rates)


def _spread(x: Tensor, strides: list[int]) -> Tensor:
    """`x` with `stride` - 1 zeros between neighbours of its two axes."""
    import tensorflow as tf

    _, height, width, channels = sizes_of(x)
    parts = tf.reshape(x, [-1, height, 1, width, channels])
    parts = tf.pad(parts, [[0, 0], [0, 0], [0, strides[0] - 1], [0, 0], [0, 0]])
    rows = tf.reshape(parts, [-1, height * strides[0], width, 1, channels])
    rows = tf.pad(rows, [[0, 0], [0, 0], [0, 0], [0, strides[1] - 1], [0, 0]])
    whole = tf.reshape(rows, [-1, height * strides[0], width * strides[1], channels])
    return whole[:, : (height - 1) * strides[0] + 1, : (width - 1) * strides[1] + 1]


def padded(node: NodeDef, size: Tensor, kernel: Tensor, x: Tensor) -> Tensor | None:
    """A transposed convolution, channels last, whose output goes on where no input pixel reaches: zeros are added.

    Declined where everything is reached. Over two or three axes.
    """
    import tensorflow as tf

    axes = kernel.shape.rank - 2
    strides, rates = (list(node.attr[name].list.i)[1:-1] or [1] * axes for name in ("strides", "dilations"))
    sizes = output_shape(node)
    first = node.attr["data_format"].s in (b"NCHW", b"NCDHW")
    if first or not sizes or -1 in sizes[1:-1] or None in kernel.shape or None in x.shape[1:-1]:
        return None
    same = node.attr["padding"].s == b"SAME"
    whole, cuts, added = [], [], []
    for axis in range(axes):
        reach = rates[axis] * (int(kernel.shape[axis]) - 1) + 1
        given, wanted = int(x.shape[axis + 1]), int(sizes[axis + 1])
        around = max((given - 1) * strides[axis] + reach - wanted, 0) if same else 0
        whole.append((given - 1) * strides[axis] + reach)
        cuts.append(slice(around // 2, min(around // 2 + wanted, whole[-1])))
        added.append([0, max(around // 2 + wanted - whole[-1], 0)])
    if not any(after for _, after in added):
        return None
    transpose = tf.nn.conv2d_transpose if axes == 2 else tf.nn.conv3d_transpose
    shape = tf.stack([tf.shape(x)[0], *whole, kernel.shape[-2]])
    found = transpose(x, kernel, shape, strides, "VALID", dilations=rates)
    return tf.pad(found[(slice(None), *cuts)], [[0, 0], *added, [0, 0]])


PADDED: Mapping[str, Rule] = {"Conv2DBackpropInput": padded, "Conv3DBackpropInputV2": padded}
"""For ONNX, whose paddings are never negative"""

RULES: Mapping[str, Rule] = {"Conv2DBackpropInput": transposed}
