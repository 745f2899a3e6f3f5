"""Negative controls of recurrent layers: gates exchanged, the direction reversed, the last step not seen.

Each is what a known mistake of an exporter returns. The values that enter a layer's loop are read from a run of the
graph, changed, and fed into it in another run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from converter.core.data import Array, Arrays
from converter.core.foreign import NodeDef
from converter.tracing.nodes import node_of
from converter.tracing.recurrent import STEPS
from converter.tracing.recurrent_operator import Recurrent, recurrent_of
from converter.tracing.rounding import Graph
from converter.tracing.wrong_answers import Subject

PLACES = 3
"""How many recurrent layers are tried: the first, the last, and one between them."""


def sequence_controls(graph: Graph, subject: Subject) -> dict[str, dict[str, Array]]:
    """The outputs of each control by its name, for the layer with the largest effect; empty without recurrent layers.

    A control is left out if no output notices it.
    """
    kept: dict[str, dict[str, Array]] = {}
    best: dict[str, tuple[float, str]] = {}
    for kind, layer, outputs in _answers(graph, subject.inputs):
        sizes = {name: subject.effect(name, subject.reference[name], array) for name, array in outputs.items()}
        noticed = [size for name, size in sizes.items() if np.isfinite(size) and size >= subject.needed[name]]
        if noticed and max(noticed) > best.get(kind, (0.0, ""))[0]:
            kept.pop(f"{kind} {best.get(kind, (0.0, ''))[1]}", None)
            best[kind] = max(noticed), layer
            kept[f"{kind} {layer}"] = outputs
    return kept


def _answers(graph: Graph, inputs: Arrays) -> Iterator[tuple[str, str, dict[str, Array]]]:
    """(kind, layer, outputs) for some recurrent layers."""
    steps = [node for node in graph.traced.graph_def.node if node.name.rpartition("/")[2].startswith(STEPS)]
    changes: tuple[tuple[str, Callable[[Array], Array]], ...] = (
        ("direction-reversed", lambda values: values[::-1]),
        ("last-step-dropped", _without_last),
    )
    for place in np.unique(np.linspace(0, len(steps) - 1, min(PLACES, len(steps))).astype(int)):
        layer = steps[place].name.rpartition("/")[0]
        for kind, change in changes:
            yield kind, layer, graph.single.with_changed(inputs, f"{steps[place].name}:0", change)
    kernels = list(_gated(graph))
    for place in np.unique(np.linspace(0, len(kernels) - 1, min(PLACES, len(kernels))).astype(int)):
        kernel, operator = kernels[place]
        swapped = _with_gates_swapped(graph.traced.weights[kernel], operator.units)
        yield "gates-swapped", kernel, graph.single(inputs, {kernel: swapped})[0]


def _gated(graph: Graph) -> Iterator[tuple[str, Recurrent]]:
    """The kernels of LSTM and GRU nodes, by their names in the weights."""
    graph_def = graph.traced.graph_def
    functions = {each.signature.name: recurrent_of(each.attr) for each in graph_def.library.function}
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        operator = functions.get(node.attr["f"].func.name) if node.op == "PartitionedCall" else None
        if operator is None or operator.kind == "RNN":
            continue
        kernel = _source(nodes, node.input[1 + operator.given])
        if kernel in graph.traced.weights:
            yield kernel, operator


def _source(nodes: dict[str, NodeDef], name: str) -> str:
    """The node whose first rows a kernel is: a mask may have added one."""
    while nodes[node_of(name)].op in ("Identity", "ConcatV2"):
        name = nodes[node_of(name)].input[0]
    return node_of(name)


def _with_gates_swapped(kernel: Array, units: int) -> Array:
    changed = kernel.copy()
    changed[:, :units], changed[:, units : 2 * units] = kernel[:, units : 2 * units], kernel[:, :units]
    return changed


def _without_last(values: Array) -> Array:
    """The last step of a sequence, shape (steps, batch, ...), as zeros."""
    changed = values.copy()
    changed[-1:] = 0
    return changed
