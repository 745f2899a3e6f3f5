"""A graph with the graphs inside it, the bodies of loops and the branches of conditions: nodes, names and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converter.core.foreign import OnnxGraph, OnnxNode


def graphs_of(node: OnnxNode) -> list[OnnxGraph]:
    """The graphs that are attributes of `node`."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def nodes_of(graph: OnnxGraph) -> Iterator[OnnxNode]:
    """All nodes, those of inner graphs included."""
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from nodes_of(inner)


def read_by(node: OnnxNode) -> set[str]:
    """The tensors that `node` reads, also from inside its graphs."""
    return {*node.input, *(name for inner in graphs_of(node) for name in _free(inner))}


def rename(graph: OnnxGraph, names: Mapping[str, str]) -> None:
    """Rename tensors, in place, wherever they are written or read; a name stands for one tensor in all graphs."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in graphs_of(node):
            rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def names_in(graph: OnnxGraph) -> set[str]:
    """The names of all tensors, those of inner graphs included."""
    names = {each.name for each in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)}
    for node in graph.node:
        names.update(node.input, node.output, *(names_in(inner) for inner in graphs_of(node)))
    return names


def in_order(graph: OnnxGraph) -> None:
    """Sort the nodes, in place, so that each stands after those that it or its inner graphs read.

    tf2onnx looks at the inputs of a node only, and puts a condition before what its branches read. Nodes that are in
    order keep their places.
    """
    for node in graph.node:
        for inner in graphs_of(node):
            in_order(inner)
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = [sorted({producers[name] for name in read_by(node) if name in producers}) for node in graph.node]
    done: dict[int, None] = {}
    for first in range(len(needs)):
        stack = [first]
        while stack:
            waiting = [index for index in needs[stack[-1]] if index not in done]
            if stack[-1] in done or not waiting:
                done.setdefault(stack.pop())
            else:
                stack.extend(waiting[::-1])
    if list(done) != sorted(done):
        nodes = [graph.node[index] for index in done]
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _free(graph: OnnxGraph) -> set[str]:
    """The tensors that `graph` reads from outside."""
    own = {each.name for each in (*graph.input, *graph.initializer)}
    own |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in read_by(node)} | {value.name for value in graph.output}
    return read - own
