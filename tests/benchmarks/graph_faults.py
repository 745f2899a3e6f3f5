"""Faults that add operators to an ONNX graph: at one of its outputs or inputs, or in one of its branches.

Each function returns a `Change`, as in `faults.py`. Some change the type or the shape of an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from faults import Change

from converter.core.data import Array
from converter.core.foreign import OnnxGraph, OnnxNode, OnnxTensor

FLOAT, HALF, DOUBLE = 1, 10, 11  # numbers of types in ONNX
Added = Callable[["Graph", str, str], object]
"""Adds nodes that compute the tensor of the second name from that of the first"""


class Graph:
    """An ONNX graph that nodes are appended to; new tensors are numbered."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.count = 0

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: object) -> str:
        """The name of the output of a new node."""
        from onnx import helper

        self.count += 1
        output = output or f"fault/{self.count}"
        self.graph.node.append(helper.make_node(operator, inputs, [output], f"fault/node{self.count}", **attributes))
        return output

    def constant(self, value: object, dtype: str = "float32") -> str:
        from onnx import numpy_helper

        self.count += 1
        name = f"fault/constant{self.count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def size(self, tensor: str, axis: int) -> str:
        """The size of an axis, an int64 of shape (1,)."""
        return self.add("Gather", [self.add("Shape", [tensor]), self.constant([axis], "int64")], axis=0)

    def float_of(self, tensor: str) -> str:
        return self.add("Cast", [tensor], to=FLOAT)


def in_half(output: str) -> Change:
    """The output is rounded to float16 and converted back."""

    def added(graph: Graph, before: str, after: str) -> None:
        graph.add("Cast", [graph.add("Cast", [before], to=HALF)], after, to=FLOAT)

    return at_output(output, added)


def retyped(output: str, code: int) -> Change:
    """The output has another type, by its number in ONNX."""

    def work(graph: OnnxGraph) -> None:
        at_output(output, lambda made, before, after: made.add("Cast", [before], after, to=code))(graph)
        _output(graph, output).type.tensor_type.elem_type = code

    return work


def off_by_one(output: str, label: int) -> Change:
    """One of the labels, an integer, is one less."""

    def added(graph: Graph, before: str, after: str) -> None:
        from onnx import helper

        code = _output(graph.graph, output).type.tensor_type.elem_type
        dtype = helper.tensor_dtype_to_np_dtype(code).name
        found = graph.add("Equal", [before, graph.constant(label, dtype)])
        graph.add("Sub", [before, graph.add("Cast", [found], to=code)], after)

    return at_output(output, added)


def axis_added(output: str) -> Change:
    """An output of shape (N, C) has the shape (N, 1, C)."""

    def work(graph: OnnxGraph) -> None:
        def added(made: Graph, before: str, after: str) -> None:
            made.add("Unsqueeze", [before, made.constant([1], "int64")], after)

        at_output(output, added)(graph)
        shape = _output(graph, output).type.tensor_type.shape
        last = shape.dim.add()
        last.CopyFrom(shape.dim[1])
        shape.dim[1].dim_value = 1

    return work


def on_channels(output: str, channels: slice, factor: float = 1.0, offset: float = 0.0, axis: int = -1) -> Change:
    """Some channels of an output are multiplied by `factor`, and `offset` is added to them."""

    def work(graph: OnnxGraph) -> None:
        dims = _output(graph, output).type.tensor_type.shape.dim
        shape = [1] * len(dims)
        shape[axis] = dims[axis].dim_value

        def added(made: Graph, before: str, after: str) -> None:
            scale, shift = (_vector(shape[axis], channels, *pair) for pair in ((1.0, factor), (0.0, offset)))
            scaled = made.add("Mul", [before, made.constant(scale.reshape(shape))])
            made.add("Add", [scaled, made.constant(shift.reshape(shape))], after)

        at_output(output, added)(graph)

    return work


def channels_exchanged(output: str, one: int, other: int) -> Change:
    """Two channels of the last axis."""

    def work(graph: OnnxGraph) -> None:
        order = np.arange(_output(graph, output).type.tensor_type.shape.dim[-1].dim_value)
        order[[one, other]] = other, one

        def added(made: Graph, before: str, after: str) -> None:
            made.add("Gather", [before, made.constant(order, "int64")], after, axis=-1)

        at_output(output, added)(graph)

    return work


def repeated(one: str, other: str) -> Change:
    """The output `other` is that of `one`."""
    return at_output(other, lambda graph, before, after: graph.add("Identity", [one], after))


def input_ignored(name: str) -> Change:
    """Zeros take the place of an input."""

    def work(graph: OnnxGraph) -> None:
        readers = [node for node in graph.node if name in node.input]
        if not readers:
            raise ValueError(f"{name}: no node reads it")
        with inserted(graph, readers) as made:
            zeros = made.add("Mul", [name, made.constant(0.0)])
        replace_inputs(readers, name, zeros)

    return work


def branch_dead(name: str, operator: str, index: int) -> Change:
    """One input of an operator that joins branches is zero."""

    def work(graph: OnnxGraph) -> None:
        node = named(graph, name, operator)
        with inserted(graph, [node]) as made:
            zeros = made.add("Mul", [node.input[index], made.constant(0.0)])
        node.input[index] = zeros

    return work


def at_output(output: str, added: Added) -> Change:
    """Nodes between the tensor of an output and the output itself; readers of the tensor are not affected."""

    def work(graph: OnnxGraph) -> None:
        _output(graph, output)
        before = f"{output}/before the fault"
        for node in graph.node:
            node.output[:] = [before if name == output else name for name in node.output]
            node.input[:] = [before if name == output else name for name in node.input]
        added(Graph(graph), before, output)

    return work


def _vector(count: int, chosen: slice, usual: float, changed: float) -> Array:
    vector = np.full(count, usual, np.float32)
    if not len(vector[chosen]):
        raise ValueError(f"{chosen} selects none of {count} channels")
    vector[chosen] = changed
    return vector


def _output(graph: OnnxGraph, name: str) -> OnnxTensor:
    found = [each for each in graph.output if each.name == name]
    if len(found) != 1:
        raise ValueError(f"{name}: not an output")
    return found[0]


def named(graph: OnnxGraph, name: str, operator: str) -> OnnxNode:
    found = [node for node in graph.node if node.name == name and node.op_type == operator]
    if len(found) != 1:
        raise ValueError(f"{name}: {len(found)} nodes of type {operator} have this name")
    return found[0]


@contextmanager
def inserted(graph: OnnxGraph, readers: Sequence[OnnxNode]) -> Iterator[Graph]:
    """The nodes that are added within the context are moved before the first of `readers`."""
    count, position = len(graph.node), min(list(graph.node).index(node) for node in readers)
    yield Graph(graph)
    added = []
    while len(graph.node) > count:
        added.append(graph.node.pop())
    for node in added:
        graph.node.insert(position, node)


def replace_inputs(nodes: Sequence[OnnxNode], before: str, after: str) -> None:
    for node in nodes:
        node.input[:] = [after if name == before else name for name in node.input]
