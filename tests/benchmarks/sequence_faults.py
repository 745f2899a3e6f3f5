"""Faults of recurrent operators in an ONNX graph: gates, directions, states and steps that a converter confuses.

Each function returns a `Change`, as in `faults.py`. `place` is the number of the LSTM or GRU in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from faults import Change
from graph_faults import Graph

from converter.core.data import Array
from converter.core.foreign import OnnxGraph, OnnxNode

KERNEL, BIAS, HIDDEN = 1, 3, 5  # among the inputs of a recurrent operator


def gates_exchanged(place: int = 0) -> Change:
    """The first two gates of the kernel stand in the order of another framework."""

    def work(kernel: Array, units: int) -> None:
        kernel[:, :units], kernel[:, units : 2 * units] = kernel[:, units : 2 * units].copy(), kernel[:, :units].copy()

    return _weights(place, KERNEL, work)


def directions_exchanged(place: int = 0) -> Change:
    """The kernels of both directions are exchanged."""

    def work(kernel: Array, units: int) -> None:
        kernel[:] = kernel[::-1].copy()

    return _weights(place, KERNEL, work)


def bias_dropped(place: int = 0) -> Change:
    """The second half of the biases, which Keras's LSTM does not have and its GRU has, is zero."""

    def work(bias: Array, units: int) -> None:
        bias[:, bias.shape[1] // 2 :] = 0

    return _weights(place, BIAS, work)


def forget_bias_dropped(place: int = 0) -> Change:
    """An LSTM forgets Keras's bias of its forget gate."""

    def work(bias: Array, units: int) -> None:
        bias[:, 2 * units : 3 * units] = 0

    return _weights(place, BIAS, work)


def attribute_set(name: str, value: object, place: int = 0) -> Change:
    """An attribute of the operator has another value: its direction, its activations, `linear_before_reset`."""

    def work(graph: OnnxGraph) -> None:
        from onnx import helper

        node = _recurrent(graph, place)
        for index, attribute in enumerate(node.attribute):
            if attribute.name == name:
                del node.attribute[index]
                break
        node.attribute.append(helper.make_attribute(name, value))

    return work


def initial_state_ignored(place: int = 0) -> Change:
    """The operator begins with zeros."""

    def work(graph: OnnxGraph) -> None:
        node = _recurrent(graph, place)
        if len(node.input) <= HIDDEN:
            raise ValueError("no initial state")
        del node.input[HIDDEN:]

    return work


def last_step_unseen(place: int = 0) -> Change:
    """The last step of the sequence that the operator reads is the one before it."""

    def work(graph: OnnxGraph) -> None:
        node = _recurrent(graph, place)
        made = Graph(graph)
        count = len(graph.node)
        length = made.size(node.input[0], 0)
        last = made.add("Sub", [length, made.constant([1], "int64")])
        before = made.add("Slice", [node.input[0], made.constant([0], "int64"), last, made.constant([0], "int64")])
        again = made.add("Slice", [before, made.constant([-1], "int64"), length, made.constant([0], "int64")])
        node.input[0] = made.add("Concat", [before, again], axis=0)
        added = [type(each).FromString(each.SerializeToString()) for each in graph.node[count:]]
        del graph.node[count:]
        index = next(index for index, each in enumerate(graph.node) if each.name == node.name)
        rest = [type(each).FromString(each.SerializeToString()) for each in graph.node[index:]]
        del graph.node[index:]
        graph.node.extend([*added, *rest])

    return work


def mask_ignored() -> Change:
    """No step is masked: what is compared with the padding's number is compared with another one."""

    def work(graph: OnnxGraph) -> None:
        from onnx import numpy_helper

        equal = next((node for node in graph.node if node.op_type == "Equal"), None)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        name = next((name for name in (equal.input if equal is not None else []) if name in constants), "")
        if not name:
            raise ValueError("no comparison with a constant")
        value = numpy_helper.to_array(constants[name]) - 7
        constants[name].CopyFrom(numpy_helper.from_array(value, name))

    return work


def _recurrent(graph: OnnxGraph, place: int) -> OnnxNode:
    found = [node for node in graph.node if node.op_type in ("LSTM", "GRU", "RNN")]
    if place >= len(found):
        raise ValueError(f"{len(found)} recurrent operators")
    return found[place]


def _weights(place: int, index: int, edit: Callable[[Array, int], None]) -> Change:
    def work(graph: OnnxGraph) -> None:
        from onnx import helper, numpy_helper

        node = _recurrent(graph, place)
        units = next(helper.get_attribute_value(each) for each in node.attribute if each.name == "hidden_size")
        tensor = next((each for each in graph.initializer if each.name == node.input[index]), None)
        if tensor is None:
            raise ValueError(f"{node.input[index]}: no initializer")
        array = np.array(numpy_helper.to_array(tensor))
        edit(array, units)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return work
