"""Rule: ZeroPadding before a "valid" convolution → the convolution with padding "same", where that is exact.

Keras pads "same" so that the output has ceil(size / stride) elements: max((out - 1) * stride + reach - size, 0) zeros
with reach = (kernel - 1) * dilation + 1, the smaller half in front (TensorFlow, "Notes on padding" of tf.nn). The two
agree only where the layer pads by exactly these amounts, which depend on the size if the stride is not 1. The common
stem (pad 3, then 7x7 with stride 2 on 224 pixels) does not agree: "same" would pad 2 in front and 3 behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from converter.core.foreign import KerasNode
from converter.rewrites.graph import Graph
from converter.rewrites.layers import altered_weights, array, renew
from converter.rewrites.rule import Context, Replacement, Rule

PADDINGS = ("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
CONVOLUTIONS = (
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
)


@dataclass(frozen=True)
class Padded:
    """The call of a padding layer, and the call of the convolution that reads it."""

    padding: KerasNode
    convolution: KerasNode


def match(graph: Graph) -> Iterator[Padded]:
    """Every convolution with padding "valid" that reads a padding layer."""
    from keras import layers

    paddings = [getattr(layers, name) for name in PADDINGS]
    convolutions = [getattr(layers, name) for name in CONVOLUTIONS]
    for padding, convolution in graph.pairs(paddings, convolutions):
        if convolution.operation.padding == "valid":
            yield Padded(padding, convolution)


def where(site: Padded) -> str:
    """The padding layer's name."""
    return str(site.padding.operation.name)


def check(graph: Graph, site: Padded, context: Context) -> str:
    """Why padding "same" would compute something else, "" where it computes the same."""
    padding, layer = site.padding.operation, site.convolution.operation
    problem = altered_weights(layer)
    if problem:
        return f"{layer.name}: {problem}"
    if graph.calls(layer) > 1:
        return f"the convolution {layer.name} is shared between calls"
    if not graph.private(site.padding.outputs[0]):
        return f"the padded tensor has another reader than {layer.name}"
    if getattr(padding, "data_format", layer.data_format) != layer.data_format:
        return f"{padding.name} and {layer.name} have different data formats"
    first = 2 if layer.data_format == "channels_first" else 1
    given = padding.padding if isinstance(padding.padding[0], tuple) else (padding.padding,)
    for axis, (pads, kernel, stride, dilation) in enumerate(
        zip(given, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    ):
        size = site.padding.input_tensors[0].shape[first + axis]
        if size is None and stride > 1:
            return f"with stride {stride} padding same depends on the size of axis {first + axis}, which is dynamic"
        expected = same_padding(size, kernel, stride, dilation)
        if tuple(pads) != expected:
            return f"axis {first + axis} is padded by {tuple(pads)}, padding same would pad by {expected}"
    return ""


def same_padding(size: int | None, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The zeros that padding "same" puts in front of and behind an axis of `size` elements.

    With stride 1 the size does not matter and may be None.
    """
    reach = (kernel - 1) * dilation + 1
    total = reach - 1 if size is None else max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def replace(graph: Graph, site: Padded, context: Context) -> Replacement:
    """The convolution with padding "same" on the tensor before the padding."""
    old, source = site.convolution.operation, site.padding.input_tensors[0]
    nodes = (site.padding, site.convolution)
    target = site.convolution.outputs[0]
    changes = {"name": graph.new_name(old.name, target, nodes), "padding": "same"}
    layer = renew(old, source.shape, changes, [array(variable) for variable in old.weights])
    return Replacement(layer.name, (source,), target, layer, (layer,), nodes)


RULE = Rule("zero-padding", match, where, check, replace)
