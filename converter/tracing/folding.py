"""Arithmetic taken out of the traced graph: scale and shift after a convolution, targets of reshapes, reversals.

Works on the GraphDef of `converter.tracing.trace`, where every batch normalization is already `x * scale + shift` with
constant vectors. For y = conv(x, W) and channel c, scale[c] * (y[c] + bias[c]) + shift[c] equals
conv(x, W * scale[c]) + (scale[c] * bias[c] + shift[c]), so a chain of such nodes becomes one BiasAdd. The vectors are
combined in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from converter.core.data import Array
from converter.core.foreign import GraphDef, NodeDef
from converter.tracing.nodes import needed_by, node_of

_CHANNEL_AXIS = {"Conv2D": -1, "Conv3D": -1, "MatMul": -1, "Conv2DBackpropInput": 2, "DepthwiseConv2dNative": None}
"""The axis of the output channels in the kernel; None: the last two axes together"""

_CHANNELS_FIRST = (b"NCHW", b"NCDHW")
_KERNEL_INPUT = {"Conv2DBackpropInput": 1}
_AFFINE = {"BiasAdd", "Add", "AddV2", "Sub", "Mul"}


@dataclass
class _Chain:
    """The affine nodes after a convolution, and what they compute together: x * scale + shift, in float64."""

    scale: Array
    shift: Array
    nodes: list[NodeDef] = field(default_factory=list)

    @property
    def folds(self) -> bool:
        """Whether folding changes anything: a single BiasAdd is what it would become."""
        return bool(np.any(self.scale != 1.0)) or [node.op for node in self.nodes] not in ([], ["BiasAdd"])


class _Consumers:
    """The nodes of a graph by name, and the nodes that read each of them; nodes in `keep` are never folded."""

    def __init__(self, graph_def: GraphDef, keep: set[str]) -> None:
        self.nodes = {node.name: node for node in graph_def.node}
        self.keep = keep
        self._names: dict[str, list[str]] = {}
        for node in graph_def.node:
            for name in node.input:
                self._names.setdefault(node_of(name), []).append(node.name)

    def only(self, name: str) -> NodeDef | None:
        """The one node that reads `name`, or None if there are more or fewer."""
        found = self._names.get(name, [])
        return self.nodes[found[0]] if len(found) == 1 else None


def fold_affine(graph_def: GraphDef, weights: Mapping[str, Array], keep: set[str]) -> tuple[GraphDef, dict[str, Array]]:
    """Fold the affine chains of `graph_def` into `weights`; nodes whose names are in `keep` stay.

    Returns a new graph and the arrays by placeholder name; an unchanged array is the given object. Not folded: a
    kernel with a second reader, a convolution with a second reader, and channels-first nodes.
    """
    from tensorflow.core.framework import graph_pb2

    consumers = _Consumers(graph_def, keep)
    folded = dict(weights)
    removed: set[str] = set()
    replaced: dict[str, list[NodeDef]] = {}
    moved: dict[str, str] = {}
    for node in graph_def.node:
        kernel = _kernel_of(node, consumers, folded)
        if kernel is None:
            continue
        chain = _chain(node, consumers, _channels(node.op, folded[kernel]))
        if not chain.folds:
            continue
        if np.any(chain.scale != 1.0):
            folded[kernel] = _scaled(node.op, folded[kernel], chain.scale)
        removed.update(link.name for link in chain.nodes)
        bias = f"{node.name.rpartition('/')[0] or node.name}/BiasAdd"
        if (bias in consumers.nodes and bias not in removed) or bias in moved.values():
            bias = f"{node.name}/folded/BiasAdd"
        last = chain.nodes[-1].name
        moved[last] = bias
        replaced[last] = _bias_nodes(bias, node, chain.shift.astype(folded[kernel].dtype))
    result = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in replaced:
            result.node.extend(replaced[node.name])
        elif node.name not in removed:
            result.node.append(node)
    for node in result.node:
        node.input[:] = [moved.get(name, name) for name in node.input]
    return _reachable(result, keep), folded


def settle_reshapes(graph_def: GraphDef) -> None:
    """Give every Reshape with at most one unknown output size a constant target, and drop the recorded shapes.

    The number of elements determines the one unknown size, so -1 may replace it; the nodes that computed it then have
    no reader. `graph_def` is changed in place.
    """
    import tensorflow as tf

    constants = []
    for node in graph_def.node:
        shape = node.attr["_output_shapes"].list.shape[:1] if "_output_shapes" in node.attr else []
        if node.op == "Reshape" and shape and not shape[0].unknown_rank:
            sizes = [size.size for size in shape[0].dim]
            if sizes.count(-1) <= 1 and 0 not in sizes:
                target = type(node)(name=f"{node.name}/target", op="Const")
                target.attr["dtype"].type = tf.int32.as_datatype_enum
                target.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(sizes, tf.int32, [len(sizes)]))
                node.input[1] = target.name
                node.attr["Tshape"].type = tf.int32.as_datatype_enum
                constants.append(target)
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)
    graph_def.node.extend(constants)


def cancel_reversals(graph_def: GraphDef) -> None:
    """Skip every ReverseV2 of a ReverseV2 over the same axes: Bidirectional reverses what its layer reversed."""
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}

    def axes(node: NodeDef) -> list[int] | None:
        constant = nodes[node_of(node.input[1])]
        return np.ravel(tf.make_ndarray(constant.attr["value"].tensor)).tolist() if constant.op == "Const" else None

    reversals = [node for node in graph_def.node if node.op == "ReverseV2"]
    skipped = {}
    for node in reversals:
        inner = nodes[node_of(node.input[0])]
        if inner.op == "ReverseV2" and axes(inner) is not None and axes(inner) == axes(node):
            skipped[node.name] = inner.input[0]
    for node in graph_def.node:
        node.input[:] = [skipped.get(name, name) for name in node.input]


def _kernel_of(node: NodeDef, consumers: _Consumers, weights: Mapping[str, Array]) -> str | None:
    """The placeholder of the kernel of a convolution or matrix product that may be folded into, or None."""
    if node.op not in _CHANNEL_AXIS:
        return None
    # "in" first: reading a missing attribute of a NodeDef adds it
    if "data_format" in node.attr and node.attr["data_format"].s in _CHANNELS_FIRST:
        return None
    kernel: str = node.input[_KERNEL_INPUT.get(node.op, 1)]
    if kernel not in weights or consumers.only(kernel) is None:
        return None
    if node.op == "MatMul" and (node.attr["transpose_a"].b or node.attr["transpose_b"].b):
        return None
    return kernel


def _channels(op: str, kernel: Array) -> int:
    axis = _CHANNEL_AXIS[op]
    return int(kernel.shape[-2] * kernel.shape[-1]) if axis is None else int(kernel.shape[axis])


def _chain(start: NodeDef, consumers: _Consumers, channels: int) -> _Chain:
    """The affine nodes that follow `start` one after the other; scale and shift have shape (channels,)."""
    chain = _Chain(np.ones(channels), np.zeros(channels))
    current = start
    while current.name not in consumers.keep and (follower := consumers.only(current.name)) is not None:
        if follower.op not in _AFFINE or follower.name in consumers.keep or len(follower.input) != 2:
            break
        first = node_of(follower.input[0]) == current.name
        vector = _channel_vector(consumers.nodes.get(node_of(follower.input[1 if first else 0])), channels)
        if vector is None:
            break
        if follower.op == "Mul":
            chain.scale, chain.shift = chain.scale * vector, chain.shift * vector
        elif follower.op == "Sub":
            sign = 1.0 if first else -1.0
            chain.scale, chain.shift = chain.scale * sign, sign * (chain.shift - vector)
        else:
            chain.shift = chain.shift + vector
        chain.nodes.append(follower)
        current = follower
    return chain


def _channel_vector(node: NodeDef | None, channels: int) -> Array | None:
    """The value of a Const node as float64 of shape (channels,), or None where it varies along another axis."""
    import tensorflow as tf

    if node is None or node.op != "Const":
        return None
    value = tf.make_ndarray(node.attr["value"].tensor)
    if value.dtype.kind != "f" or value.ndim > 5 or value.size not in (1, channels):
        return None
    if value.size == channels and value.ndim and value.shape[-1] != channels:
        return None
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (channels,))


def _scaled(op: str, kernel: Array, scale: Array) -> Array:
    """`kernel` times `scale` along its output channels, computed in float64; shape and dtype unchanged."""
    axis = _CHANNEL_AXIS[op]
    if axis is None:
        factor = scale.reshape(kernel.shape[-2:])
    elif axis == 2:
        factor = scale[:, None]
    else:
        factor = scale
    return np.multiply(kernel, factor.astype(np.float64), dtype=np.float64).astype(kernel.dtype)


def _bias_nodes(name: str, convolution: NodeDef, shift: Array) -> list[NodeDef]:
    """The Const and the BiasAdd `name` that replace the chain after `convolution`."""
    import tensorflow as tf
    from tensorflow.core.framework import node_def_pb2

    constant = node_def_pb2.NodeDef(name=f"{convolution.name}/folded_bias", op="Const")
    constant.attr["dtype"].type = convolution.attr["T"].type
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(shift))
    add = node_def_pb2.NodeDef(name=name, op="BiasAdd", input=[convolution.name, constant.name])
    add.attr["T"].CopyFrom(convolution.attr["T"])
    add.attr["data_format"].s = b"NHWC"
    return [constant, add]


def _reachable(graph_def: GraphDef, keep: set[str]) -> GraphDef:
    """A copy of `graph_def` with only the nodes that `keep` needs."""
    from tensorflow.core.framework import graph_pb2

    needed = needed_by(keep, {node.name: node for node in graph_def.node})
    result = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    result.node.extend(node for node in graph_def.node if node.name in needed)
    return result
