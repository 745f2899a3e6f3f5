"""Where Keras's layers end in the traced graph, and what they answer there.

The unfolded trace is the model's own arithmetic under the layers' names. A layer ends at each node that depends on the
model's inputs and that another layer, or the model's output, reads. Activations leave TensorFlow as sketches only:
those of a large network would not fit into memory together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converter.core.data import Array, Traced
from converter.core.sketch import BUCKETS, SAMPLES, distance, sketch
from converter.tracing.naming import layer_of, node_of


@dataclass(frozen=True)
class LayerEnd:
    """A node where a layer ends. `inputs` are the places, in the list of ends, of those that the layer reads.

    `parameters` tells whether the layer has any vector or kernel. `sketch` is Keras's float32 activation, shape
    (samples, 64), `elements` its size for one sample, `noise` its relative L2 distance from float64 (None: unknown).
    """

    node: str
    layer: str
    kind: str
    inputs: tuple[int, ...]
    parameters: bool
    elements: int = 0
    noise: float | None = None
    sketch: Array | None = None


def find(traced: Traced) -> tuple[LayerEnd, ...]:
    """The ends of `traced`, a graph that was not folded, each behind the ends that it reads; not measured yet."""
    nodes = {node.name: node for node in traced.graph_def.node}
    order = _order(nodes, traced.outputs)
    computed = set(traced.inputs)
    readers: dict[str, set[str]] = {}
    owners = {name: "" if name in traced.outputs else layer_of(name, traced.layers) for name in order}
    parameters = set()
    for name in order:
        sources = _sources(nodes[name])
        if any(source in computed for source in sources):
            computed.add(name)
        elif nodes[name].op in ("Const", "Placeholder") and _is_vector(nodes[name]):
            parameters.add(owners[name])
        for source in sources:
            readers.setdefault(source, set()).add(owners[name])
    ends: list[LayerEnd] = []
    places: dict[str, int] = {}
    for name in order:
        owner = owners[name]
        if (
            name in computed
            and name not in traced.inputs
            and owner in traced.layers
            and readers.get(name, set()) - {owner}
        ):
            inputs = _read(name, nodes, places)
            places[name] = len(ends)
            ends.append(LayerEnd(name, owner, traced.layers[owner], inputs, owner in parameters))
    return tuple(ends)


def watch(graph: Any, ends: Sequence[LayerEnd]) -> list[Any]:
    """For each of `ends` a tensor of `graph` to fetch: the sketch of its activation, and its size, as float64.

    The shape is (samples, 65); empty where the node's result is not floating point.
    """
    import tensorflow as tf

    fetches = []
    with graph.as_default():
        for end in ends:
            operation = graph.get_operation_by_name(end.node)
            first = operation.outputs[0] if operation.outputs else None
            floating = first is not None and first.dtype.is_floating
            fetches.append(
                tf.numpy_function(_sketched, [first], tf.float64) if floating else tf.zeros([0, 0], tf.float64)
            )
    return fetches


def measured(ends: Sequence[LayerEnd], single: Sequence[Array], exact: Sequence[Array]) -> tuple[LayerEnd, ...]:
    """`ends` with what `watch` gave in float32 and, where `exact` is not empty, in float64.

    An end whose first axis is not that of the samples, or that is not finite, has no sketch afterwards.
    """
    result = []
    for place, end in enumerate(ends):
        found = single[place]
        if found.shape != (SAMPLES, BUCKETS + 1) or not np.isfinite(found).all():
            result.append(end)
            continue
        noise = distance(found[:, :-1], exact[place][:, :-1]) if len(exact) else None
        noise = noise if noise is not None and np.isfinite(noise) else None
        result.append(replace(end, elements=int(found[0, -1]), noise=noise, sketch=found[:, :-1]))
    return tuple(result)


def _sketched(activation: Array) -> Array:
    values = sketch(activation)
    return np.column_stack([values, np.full(len(values), activation.size // max(1, len(values)), np.float64)])


def _order(nodes: Mapping[str, Any], outputs: Iterable[str]) -> list[str]:
    """The nodes that `outputs` need, each behind its sources; as far as that leaves free, in the graph's order."""
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(_sources(nodes[name]))
    order: dict[str, None] = {}
    for first in nodes:
        stack = [first] if first in needed else []
        while stack:
            name = stack[-1]
            missing = [source for source in _sources(nodes[name]) if source not in order]
            if name in order or not missing:
                order.setdefault(stack.pop())
            else:
                stack.extend(missing)
    return list(order)


def _read(name: str, nodes: Mapping[str, Any], places: Mapping[str, int]) -> tuple[int, ...]:
    """The places of the nearest ends that the node `name` depends on."""
    found, seen, waiting = set(), set(), _sources(nodes[name])
    while waiting:
        source = waiting.pop()
        if source in places:
            found.add(places[source])
        elif source not in seen:
            seen.add(source)
            waiting.extend(_sources(nodes[source]))
    return tuple(sorted(found))


def _sources(node: Any) -> list[str]:
    return [node_of(name) for name in node.input]


def _is_vector(node: Any) -> bool:
    """Whether a constant or a weight is floating point and has an axis."""
    import tensorflow as tf

    shape = node.attr["value"].tensor.tensor_shape if node.op == "Const" else node.attr["shape"].shape
    return tf.dtypes.as_dtype(node.attr["dtype"].type).is_floating and len(shape.dim) > 0
