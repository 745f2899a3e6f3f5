"""Paths through a GraphDef: which nodes a node reads, and which nodes an output needs. Nothing is changed here."""

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
