"""State that a model changes at inference: counters, moving statistics, the states of random seeds.

An artifact is a function of its inputs. What changes a variable is left out of the graph, with a warning; what reads a
variable after the change is refused, because a later call would see another value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from converter.core.errors import ConversionError
from converter.core.foreign import GraphDef, KerasModel, NodeDef
from converter.tracing.naming import described_layer
from converter.tracing.nodes import node_of

_CHANGES = ("Assign", "ResourceScatter", "ResourceStridedSliceAssign")
_READS = ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
KEPT = "{0}: changes its state at every call; the artifacts keep the value that it has now"


def without_changes(
    graph_def: GraphDef, outputs: Sequence[str], seeds: Collection[str], layers: Mapping[str, str]
) -> tuple[str, ...]:
    """Remove from `graph_def`, in place, every operator that changes a variable; returns warnings.

    `outputs` are the names of the output nodes. `seeds` are the resources that hold the states of random seeds: there
    is no warning where no output depends on one. Raises ConversionError where an output depends on a changed value.
    """
    nodes = {node.name: node for node in graph_def.node}
    changes = [node for node in graph_def.node if _is_change(node)]
    if not changes:
        return ()
    needed = _needed(outputs, nodes)
    changed = {node.input[0] for node in changes}
    read = {nodes[name].input[0] for name in needed if nodes[name].op in _READS}
    for name in needed:
        node = nodes[name]
        if node.op in _READS and node.input[0] in changed and _follows(node, node.input[0], nodes):
            raise ConversionError(
                f"{described_layer(name, layers)}: an output depends on a variable that this call has changed before\n"
                "let the layer take its state as an input and return the new one"
            )
    warned = [node for node in changes if node.input[0] not in seeds or node.input[0] in read]
    removed = {node.name for node in changes}
    kept = [node for node in graph_def.node if node.name not in removed]
    for node in kept:
        node.input[:] = [name for name in node.input if not (name.startswith("^") and name[1:] in removed)]
    del graph_def.node[:]
    graph_def.node.extend(kept)
    return tuple(dict.fromkeys(KEPT.format(described_layer(node.name, layers)) for node in warned))


@contextmanager
def kept_state(model: KerasModel) -> Iterator[None]:
    """After the context, the variables of `model` that are not trained have the values that they had before it."""
    variables = [each for layer in model._flatten_layers() for each in layer._non_trainable_variables]
    variables += [each.state for layer in model._flatten_layers() for each in getattr(layer, "_seed_generators", ())]
    before = [(each, np.array(each.numpy())) for each in {id(each): each for each in variables}.values()]
    try:
        yield
    finally:
        for variable, array in before:
            if not np.array_equal(np.asarray(variable.numpy()), array):
                variable.assign(array)


def seed_states(model: KerasModel) -> set[int]:
    """The ids of the handles of the variables that hold the states of random seeds in `model`."""
    generators = [each for layer in model._flatten_layers() for each in getattr(layer, "_seed_generators", ())]
    return {id(each.state.value.handle) for each in generators}


def _is_change(node: NodeDef) -> bool:
    return node.op.startswith(_CHANGES) and len(node.input) > 0


def _needed(outputs: Sequence[str], nodes: Mapping[str, NodeDef]) -> set[str]:
    """The nodes whose values `outputs` depend on; the order of execution alone does not count."""
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [node_of(each) for each in nodes[name].input if not each.startswith("^")]
    return needed


def _follows(read: NodeDef, resource: str, nodes: Mapping[str, NodeDef]) -> bool:
    """Whether `read` waits for a change of `resource`; TensorFlow orders what uses one variable by control inputs."""
    seen: set[str] = set()
    waiting = [each[1:] for each in read.input if each.startswith("^")]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        node = nodes[name]
        if _is_change(node) and node.input[0] == resource:
            return True
        waiting += [each[1:] for each in node.input if each.startswith("^")]
    return False
