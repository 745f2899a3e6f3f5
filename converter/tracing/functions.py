"""The functions of a GraphDef: bodies of loops, branches of conditions, recurrent nodes; their callers and names."""

from __future__ import annotations

import hashlib
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


def _named_by(node: NodeDef) -> list[str]:
    """What may be a function: those of the attributes, and the operator itself, as older TensorFlow calls them."""
    return [node.op, *called_by(node)]


def reachable(nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> list[str]:
    """The functions that `nodes` call, directly or through others, each once."""
    found: dict[str, None] = {}
    waiting = [name for node in nodes for name in _named_by(node)]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found[name] = None
            waiting.extend(inner for node in functions[name].node_def for inner in _named_by(node))
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


def name_by_content(graph_def: GraphDef) -> None:
    """Name each function after a hash of its content, in place: one process may load many graphs.

    TensorFlow refuses two functions of one name whose definitions differ, as they do for the same graph in two
    precisions. Recursive functions, which no tensor loop makes, keep their names.
    """
    functions = {each.signature.name: each for each in graph_def.library.function}
    renamed: dict[str, str] = {}
    waiting = dict(functions)
    while waiting:
        ready = [
            name
            for name, each in waiting.items()
            if not any(inner in waiting for node in each.node_def for inner in _named_by(node))
        ]
        if not ready:
            break
        for name in ready:
            function = waiting.pop(name)
            for node in function.node_def:
                _rename_calls(node, renamed)
            function.signature.name = ""
            digest = hashlib.sha256(function.SerializeToString(deterministic=True)).hexdigest()[:16]
            renamed[name] = function.signature.name = f"function_{digest}"
    for node in graph_def.node:
        _rename_calls(node, renamed)
    kept = {each.signature.name: each for each in graph_def.library.function}
    unique = [type(each).FromString(each.SerializeToString()) for each in kept.values()]
    del graph_def.library.function[:]
    graph_def.library.function.extend(unique)


def _rename_calls(node: NodeDef, renamed: Mapping[str, str]) -> None:
    node.op = renamed.get(node.op, node.op)
    for value in node.attr.values():
        if value.WhichOneof("value") == "func":
            value.func.name = renamed.get(value.func.name, value.func.name)
        for each in value.list.func if value.WhichOneof("value") == "list" else ():
            each.name = renamed.get(each.name, each.name)
