"""Faults to plant in an ONNX graph: mistakes of converters, of ports from other frameworks, and of manual edits.

Each function returns a `Change`, which edits a GraphProto in place. The file can still be loaded, and every input and
output keeps its name, shape and type, so that only a comparison of numbers can detect the fault. A graph to which a
fault does not apply raises ValueError and is not changed.

Kernels are named by their initializer ("stem_conv/kernel"), operators by their node ("stem_conv/Conv"); both begin with
the name of the Keras layer. Kernels are (outputs, inputs of a group, height, width), pads (top, left, bottom, right).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from converter.core.data import Array
from converter.core.foreign import OnnxAttribute, OnnxGraph, OnnxNode

Change = Callable[[OnnxGraph], None]
TOP, BOTTOM = 0, 2  # in pads


def scaled(kernel: str, factor: float = 1.001) -> Change:
    return _edited(kernel, lambda array: array * np.float32(factor))


def filter_zeroed(kernel: str, index: int) -> Change:
    """One output channel is 0 before the bias is added."""

    def work(array: Array) -> Array:
        array[index] = 0
        return array

    return _edited(kernel, work)


def filter_scaled(kernel: str, index: int, factor: float) -> Change:
    """One output channel is `factor` times as large before the bias is added."""

    def work(array: Array) -> Array:
        array[index] *= np.float32(factor)
        return array

    return _edited(kernel, work)


def input_channel_dropped(kernel: str, channel: int) -> Change:
    """A convolution does not read one of its input channels."""

    def work(array: Array) -> Array:
        array[:, channel] = 0
        return array

    return _edited(kernel, work)


def inputs_reversed(kernel: str) -> Change:
    """For a first convolution: it reads an RGB image as BGR."""
    return _edited(kernel, lambda array: array[:, ::-1])


def transposed(kernel: str) -> Change:
    """Height and width of the kernel are exchanged."""
    return _edited(kernel, lambda array: array.swapaxes(2, 3))


def groups_exchanged(kernel: str, groups: int, one: int = 0, other: int = 1) -> Change:
    """Two groups of a grouped convolution read each other's channels."""

    def work(array: Array) -> Array:
        size = len(array) // groups
        first, second = slice(one * size, (one + 1) * size), slice(other * size, (other + 1) * size)
        array[first], array[second] = array[second].copy(), array[first].copy()
        return array

    return _edited(kernel, work)


def in_float16(kernel: str) -> Change:
    """The weights lose 13 of the 23 bits of their mantissa."""
    return _edited(kernel, lambda array: array.astype(np.float16).astype(np.float32))


def in_bfloat16(kernel: str) -> Change:
    """The weights lose 16 of the 23 bits of their mantissa, which are cut off."""

    def work(array: Array) -> Array:
        array.view(np.uint32)[...] &= np.uint32(0xFFFF0000)
        return array

    return _edited(kernel, work)


def in_int8(kernel: str) -> Change:
    """The weights become multiples of max|w| / 127, as in symmetric quantization per tensor."""

    def work(array: Array) -> Array:
        step = np.abs(array).max() / np.float32(127)
        return np.round(array / step) * step

    return _edited(kernel, work)


def biases_exchanged(one: str, other: str) -> Change:
    """Two convolutions exchange their biases, which contain the shifts of their batch normalizations."""

    def work(graph: OnnxGraph) -> None:
        first, second = _node(graph, one, "Conv"), _node(graph, other, "Conv")
        first.input[2], second.input[2] = second.input[2], first.input[2]

    return work


def bias_dropped(convolution: str) -> Change:
    def work(graph: OnnxGraph) -> None:
        del _node(graph, convolution, "Conv").input[2]

    return work


def padding_shifted(convolution: str) -> Change:
    """One row of padding moves from the top to the bottom: every output comes from one row below."""

    def work(pads: list[int]) -> list[int]:
        if pads[TOP] < 1:
            raise ValueError(f"{convolution}: no padding at the top")
        pads[TOP] -= 1
        pads[BOTTOM] += 1
        return pads

    return _padded(convolution, work)


def stride_phase(convolution: str) -> Change:
    """Padding at the start of the image instead of its end: a stride of 2 then reads the other pixels."""
    return _padded(convolution, lambda pads: pads[BOTTOM:] + pads[:BOTTOM])


def _padded(convolution: str, work: Callable[[list[int]], list[int]]) -> Change:
    def change(graph: OnnxGraph) -> None:
        (pads,) = [each for each in _node(graph, convolution, "Conv").attribute if each.name == "pads"]
        before = list(pads.ints)
        after = work(list(before))
        if after == before:
            raise ValueError(f"{convolution}: pads {before} stay as they are")
        pads.ints[:] = after

    return change


def padding_counted(pool: str) -> Change:
    """An average pool divides by the size of its window also at the border."""

    def work(graph: OnnxGraph) -> None:
        node = _node(graph, pool, "AveragePool")
        if any(each.name == "count_include_pad" and each.i for each in node.attribute):
            raise ValueError(f"{pool}: already counts its padding")
        _attribute(node, count_include_pad=1)

    return work


def averaged(pool: str) -> Change:
    """A maximum pool becomes an average pool of the same window."""

    def work(graph: OnnxGraph) -> None:
        node = _node(graph, pool, "MaxPool")
        node.op_type = "AveragePool"
        for each in [each for each in node.attribute if each.name in ("dilations", "storage_order")]:
            node.attribute.remove(each)

    return work


def activation_left_out(name: str) -> Change:
    """The readers of a ReLU read its input instead."""

    def work(graph: OnnxGraph) -> None:
        node = _node(graph, name, "Relu")
        _rename_inputs(graph, {node.output[0]: node.input[0]})
        graph.node.remove(node)

    return work


def unbounded() -> Change:
    """Every ReLU6 of the model is a ReLU."""

    def work(graph: OnnxGraph) -> None:
        for node in _all(graph, "Clip"):
            node.op_type = "Relu"
            del node.input[1:]

    return work


def corners_aligned() -> Change:
    """Every bilinear resizing aligns corners instead of half pixels (PyTorch: align_corners=True)."""

    def work(graph: OnnxGraph) -> None:
        for node in _all(graph, "Resize"):
            _attribute(node, coordinate_transformation_mode="align_corners")

    return work


def outputs_exchanged(one: str, other: str) -> Change:
    """Two outputs of the model exchange their names."""

    def work(graph: OnnxGraph) -> None:
        names = {one: other, other: one}
        if not set(names) <= {output.name for output in graph.output}:
            raise ValueError(f"{one} and {other} are not both outputs")
        for node in graph.node:
            node.output[:] = [names.get(name, name) for name in node.output]
        _rename_inputs(graph, names)

    return work


def _edited(name: str, work: Callable[[Array], Array]) -> Change:
    """Replace an initializer by the result of `work`, which must differ from it."""

    def change(graph: OnnxGraph) -> None:
        from onnx import numpy_helper

        found = [each for each in graph.initializer if each.name == name]
        if len(found) != 1:
            raise ValueError(f"{name}: {len(found)} initializers have this name")
        before = numpy_helper.to_array(found[0])
        after = np.ascontiguousarray(work(before.copy()))
        if after.shape != before.shape or after.dtype != before.dtype or np.array_equal(after, before):
            raise ValueError(f"{name}: not changed, or its shape or type changed")
        found[0].CopyFrom(numpy_helper.from_array(after, name))

    return change


def _node(graph: OnnxGraph, name: str, operator: str) -> OnnxNode:
    found = [node for node in graph.node if node.name == name]
    if len(found) != 1 or found[0].op_type != operator:
        raise ValueError(f"{name}: found {[node.op_type for node in found]} instead of one {operator}")
    return found[0]


def _all(graph: OnnxGraph, operator: str) -> list[OnnxNode]:
    found = [node for node in graph.node if node.op_type == operator]
    if not found:
        raise ValueError(f"the graph has no {operator}")
    return found


def _attribute(node: OnnxNode, **values: OnnxAttribute) -> None:
    """Set attributes; those of the same name are replaced."""
    from onnx import helper

    for name, value in values.items():
        for each in [each for each in node.attribute if each.name == name]:
            node.attribute.remove(each)
        node.attribute.append(helper.make_attribute(name, value))


def _rename_inputs(graph: OnnxGraph, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
