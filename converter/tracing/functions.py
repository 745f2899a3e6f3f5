"""The functions of a GraphDef: bodies of loops, branches of conditions, recurrent nodes. Which call which, and state.

A function reads a variable that its caller captured through an argument, whose type is a resource. `with_values` makes
it an argument of the variable's own type, so that a graph has weights only as nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from converter.core.foreign import FunctionDef, GraphDef, NodeDef


def called_by(node: NodeDef) -> list[str]:
    """The names of the functions in the attributes of `node`."""
    names = []
    for value in node.attr.values():
        if value.WhichOneof("value") == "func":
            names.append(value.func.name)
        elif value.WhichOneof("value") == "list":
            names.extend(each.name for each in value.list.func)
    return names


def reachable(nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> list[str]:
    """The functions that `nodes` call, directly or through others, each once."""
    found: dict[str, None] = {}
    waiting = [name for node in nodes for name in called_by(node)]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found[name] = None
            waiting.extend(inner for node in functions[name].node_def for inner in called_by(node))
    return list(found)


def drop_unused(graph_def: GraphDef) -> None:
    """Remove the functions that nothing calls."""
    functions = {each.signature.name: each for each in graph_def.library.function}
    kept = set(reachable(graph_def.node, functions))
    for index in reversed(range(len(graph_def.library.function))):
        if graph_def.library.function[index].signature.name not in kept:
            del graph_def.library.function[index]


def all_nodes(graph_def: GraphDef) -> Iterator[NodeDef]:
    """The nodes of the graph, then those of every function."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
