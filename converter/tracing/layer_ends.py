"""Where Keras's layers end in the traced graph, and the activations there, as sketches.

Needs the unfolded trace: the model's own arithmetic under the layers' names. A layer ends at each node that depends on
the model's inputs and that another layer, or the model's output, reads. Activations leave TensorFlow as sketches only:
those of a large network do not fit into memory together. What an error at a layer means is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Array, Traced
from converter.core.foreign import NodeDef, Tensor, TfGraph
from converter.core.sketch import BUCKETS, SAMPLES, distance, sketch
from converter.tracing.naming import layer_of
from converter.tracing.nodes import ordered, sources_of


@dataclass(frozen=True)
class LayerEnd:
    """A node where a layer ends. `inputs` are the indices, in the list of ends, of the ends that the layer reads.

    `kind` is the layer's class. `parameters`: whether the layer has a vector or a kernel. `sketch` is Keras's float32
    activation, shape (samples, 64), `elements` its size for one sample, `noise` its relative L2 distance from float64
    (None: unknown).
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
    """The ends of `traced`, an unfolded graph, without measurements; each stands after the ends that it reads."""
    nodes = {node.name: node for node in traced.graph_def.node}
    order = ordered(traced.outputs, nodes)
    computed = set(traced.inputs)
    readers: dict[str, set[str]] = {}
    owners = {name: "" if name in traced.outputs else layer_of(name, traced.layers) for name in order}
    parameters = set()
    for name in order:
        sources = sources_of(nodes[name])
        if any(source in computed for source in sources):
            computed.add(name)
        elif nodes[name].op in ("Const", "Placeholder") and _is_vector(nodes[name]):
            parameters.add(owners[name])
        for source in sources:
            readers.setdefault(source, set()).add(owners[name])
    ends: list[LayerEnd] = []
    indices: dict[str, int] = {}
    for name in order:
        owner = owners[name]
        if (
            name in computed
            and name not in traced.inputs
            and owner in traced.layers
            and readers.get(name, set()) - {owner}
        ):
            inputs = _ends_before(name, nodes, indices)
            indices[name] = len(ends)
            ends.append(LayerEnd(name, owner, traced.layers[owner], inputs, owner in parameters))
    return tuple(ends)


def watch(graph: TfGraph, ends: Sequence[LayerEnd], first: bool = False) -> list[Tensor]:
    """One tensor of `graph` to fetch for each of `ends`: float64, shape (samples, 65), or of the `first` samples only.

    The first 64 columns are the sketch of the activation, the last is its size for one sample. The tensor is empty
    where the node's result is not floating point.
    """
    import tensorflow as tf

    fetches, function = [], _first_sketched if first else _sketched
    with graph.as_default():
        for end in ends:
            operation = graph.get_operation_by_name(end.node)
            tensor = operation.outputs[0] if operation.outputs else None
            floating = tensor is not None and tensor.dtype.is_floating
            fetches.append(
                tf.numpy_function(function, [tensor], tf.float64) if floating else tf.zeros([0, 0], tf.float64)
            )
    return fetches


def measured(ends: Sequence[LayerEnd], single: Sequence[Array], exact: Sequence[Array]) -> tuple[LayerEnd, ...]:
    """`ends` with the values of `watch`: `single` in float32, `exact` in float64 (empty: not available).

    Both have one array of shape (samples, 65) for each end, `exact` perhaps of one sample less. An end has no sketch
    afterwards if its first axis is not the samples', or if it is not finite.
    """
    result = []
    for index, end in enumerate(ends):
        found = single[index]
        if found.shape != (SAMPLES, BUCKETS + 1) or not np.isfinite(found).all():
            result.append(end)
            continue
        noise = distance(found[: len(exact[index]), :-1], exact[index][:, :-1]) if len(exact) else None
        noise = noise if noise is not None and np.isfinite(noise) else None
        result.append(replace(end, elements=int(found[0, -1]), noise=noise, sketch=found[:, :-1]))
    return tuple(result)


def _sketched(activation: Array) -> Array:
    values = sketch(activation)
    return np.column_stack([values, np.full(len(values), activation.size // max(1, len(values)), np.float64)])


def _first_sketched(activation: Array) -> Array:
    return _sketched(activation[:SAMPLES] if activation.ndim else activation)


def _ends_before(name: str, nodes: Mapping[str, NodeDef], indices: Mapping[str, int]) -> tuple[int, ...]:
    """The indices of the nearest ends that the node `name` depends on."""
    found, seen, waiting = set(), set(), sources_of(nodes[name])
    while waiting:
        source = waiting.pop()
        if source in indices:
            found.add(indices[source])
        elif source not in seen:
            seen.add(source)
            waiting.extend(sources_of(nodes[source]))
    return tuple(sorted(found))


def _is_vector(node: NodeDef) -> bool:
    """Whether a constant or a weight is floating point and has at least one axis."""
    import tensorflow as tf

    shape = node.attr["value"].tensor.tensor_shape if node.op == "Const" else node.attr["shape"].shape
    return tf.dtypes.as_dtype(node.attr["dtype"].type).is_floating and len(shape.dim) > 0
