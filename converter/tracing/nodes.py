"""Paths through a GraphDef: which nodes a node reads, which an output needs, and their order. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from converter.core.foreign import NodeDef


def node_of(tensor: str) -> str:
    """The node that an input of a graph node refers to: `name` for "name", "name:1" and "^name"."""
    return tensor.removeprefix("^").split(":")[0]


def sources_of(node: NodeDef) -> list[str]:
    """The names of the nodes that `node` reads, in the order of its inputs."""
    return [node_of(name) for name in node.input]


def needed_by(outputs: Iterable[str], nodes: Mapping[str, NodeDef]) -> set[str]:
    """The names of `outputs` and of all nodes that they read, directly or through others."""
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(sources_of(nodes[name]))
    return needed


def ordered(outputs: Iterable[str], nodes: Mapping[str, NodeDef]) -> list[str]:
    """The nodes that `outputs` need, each after its sources; otherwise in the order of the graph."""
    needed = needed_by(outputs, nodes)
    order: dict[str, None] = {}
    for first in nodes:
        stack = [first] if first in needed else []
        while stack:
            name = stack[-1]
            missing = [source for source in sources_of(nodes[name]) if source not in order]
            if name in order or not missing:
                order.setdefault(stack.pop())
            else:
                stack.extend(missing)
    return list(order)
