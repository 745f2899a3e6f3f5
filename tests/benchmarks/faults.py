"""Faults to plant in an ONNX graph: the mistakes of converters, of ports from other frameworks, and of hands.

Each function returns a `Change`, which works on a GraphProto in place. It leaves the file loadable and every input and
output with its name, shape and type, so that only numbers can tell. What a fault does not fit raises ValueError: no
fault is ever planted by half.

Kernels are named by their initializer ("stem_conv/kernel"), operators by their node ("stem_conv/Conv"); both begin with
the name of the Keras layer. Kernels are (outputs, inputs of a group, height, width), pads (top, left, bottom, right).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Change = Callable[[Any], None]
TOP, BOTTOM = 0, 2  # in pads


def scaled(kernel: str, factor: float = 1.001) -> Change:
    return _edited(kernel, lambda array: array * np.float32(factor))


def filter_zeroed(kernel: str, index: int) -> Change:
    """One output channel is 0 before its bias."""

    def work(array: Array) -> Array:
        array[index] = 0
        return array

    return _edited(kernel, work)


def inputs_reversed(kernel: str) -> Change:
    """Of a first convolution: the image is read as BGR."""
    return _edited(kernel, lambda array: array[:, ::-1])


def transposed(kernel: str) -> Change:
    """Height and width change places."""
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
    """The weights lose 13 of their 23 bits."""
    return _edited(kernel, lambda array: array.astype(np.float16).astype(np.float32))


def in_int8(kernel: str) -> Change:
    """The weights become multiples of max|w| / 127, as in symmetric quantization by tensor."""

    def work(array: Array) -> Array:
        step = np.abs(array).max() / np.float32(127)
        return np.round(array / step) * step

    return _edited(kernel, work)


def biases_exchanged(one: str, other: str) -> Change:
    """Two convolutions get each other's bias, which holds what remains of their batch norms."""

    def work(graph: Any) -> None:
        first, second = _node(graph, one, "Conv"), _node(graph, other, "Conv")
        first.input[2], second.input[2] = second.input[2], first.input[2]

    return work


def bias_dropped(convolution: str) -> Change:
    def work(graph: Any) -> None:
        del _node(graph, convolution, "Conv").input[2]

    return work


def padding_shifted(convolution: str) -> Change:
    """One row of padding goes from the top to the bottom: every answer comes from one row below."""

    def work(pads: list[int]) -> list[int]:
        if pads[TOP] < 1:
            raise ValueError(f"{convolution}: no padding at the top")
        pads[TOP] -= 1
        pads[BOTTOM] += 1
        return pads

    return _padded(convolution, work)


def stride_phase(convolution: str) -> Change:
    """Padding before the image instead of behind it: a stride of 2 then lands on the other pixels."""
    return _padded(convolution, lambda pads: pads[BOTTOM:] + pads[:BOTTOM])


def _padded(convolution: str, work: Callable[[list[int]], list[int]]) -> Change:
    def change(graph: Any) -> None:
        (pads,) = [each for each in _node(graph, convolution, "Conv").attribute if each.name == "pads"]
        before = list(pads.ints)
        after = work(list(before))
        if after == before:
            raise ValueError(f"{convolution}: pads {before} stay as they are")
        pads.ints[:] = after

    return change


def padding_counted(pool: str) -> Change:
    """An average pool divides by the size of its window at the border, too."""

    def work(graph: Any) -> None:
        node = _node(graph, pool, "AveragePool")
        if any(each.name == "count_include_pad" and each.i for each in node.attribute):
            raise ValueError(f"{pool}: counts its padding already")
        _attribute(node, count_include_pad=1)

    return work


def averaged(pool: str) -> Change:
    """A maximum pool becomes an average pool of the same window."""

    def work(graph: Any) -> None:
        node = _node(graph, pool, "MaxPool")
        node.op_type = "AveragePool"
        for each in [each for each in node.attribute if each.name in ("dilations", "storage_order")]:
            node.attribute.remove(each)

    return work


def activation_left_out(name: str) -> Change:
    """What read the ReLU reads its input instead."""

    def work(graph: Any) -> None:
        node = _node(graph, name, "Relu")
        _rename_inputs(graph, {node.output[0]: node.input[0]})
        graph.node.remove(node)

    return work


def unbounded() -> Change:
    """Every ReLU6 of the model is a ReLU."""

    def work(graph: Any) -> None:
        for node in _all(graph, "Clip"):
            node.op_type = "Relu"
            del node.input[1:]

    return work


def corners_aligned() -> Change:
    """All bilinear resizing maps corners to corners instead of halves of pixels (PyTorch: align_corners=True)."""

    def work(graph: Any) -> None:
        for node in _all(graph, "Resize"):
            _attribute(node, coordinate_transformation_mode="align_corners")

    return work


def outputs_exchanged(one: str, other: str) -> Change:
    """Two outputs of the model have each other's name."""

    def work(graph: Any) -> None:
        names = {one: other, other: one}
        if not set(names) <= {output.name for output in graph.output}:
            raise ValueError(f"{one} and {other} are not both outputs")
        for node in graph.node:
            node.output[:] = [names.get(name, name) for name in node.output]
        _rename_inputs(graph, names)

    return work


def _edited(name: str, work: Callable[[Array], Array]) -> Change:
    """Replaces an initializer by what `work` makes of it, which must differ."""

    def change(graph: Any) -> None:
        from onnx import numpy_helper

        found = [each for each in graph.initializer if each.name == name]
        if len(found) != 1:
            raise ValueError(f"{name}: {len(found)} initializers have this name")
        before = numpy_helper.to_array(found[0])
        after = np.ascontiguousarray(work(before.copy()))
        if after.shape != before.shape or after.dtype != before.dtype or np.array_equal(after, before):
            raise ValueError(f"{name}: not changed, or not in its numbers alone")
        found[0].CopyFrom(numpy_helper.from_array(after, name))

    return change


def _node(graph: Any, name: str, operator: str) -> Any:
    found = [node for node in graph.node if node.name == name]
    if len(found) != 1 or found[0].op_type != operator:
        raise ValueError(f"{name}: found {[node.op_type for node in found]} instead of one {operator}")
    return found[0]


def _all(graph: Any, operator: str) -> list[Any]:
    found = [node for node in graph.node if node.op_type == operator]
    if not found:
        raise ValueError(f"the graph holds no {operator}")
    return found


def _attribute(node: Any, **values: Any) -> None:
    """Set attributes, over those of the same name."""
    from onnx import helper

    for name, value in values.items():
        for each in [each for each in node.attribute if each.name == name]:
            node.attribute.remove(each)
        node.attribute.append(helper.make_attribute(name, value))


def _rename_inputs(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
