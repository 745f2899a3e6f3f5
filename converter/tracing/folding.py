"""What the traced graph computes at run time and need not: per-channel arithmetic behind a convolution, shapes.

Works on the graph that `converter.tracing.trace` made: TensorFlow has already folded every batch normalization into
`x * scale + shift` with constant vectors. For y = conv(x, W), channel c: scale[c] * (y[c] + bias[c]) + shift[c] equals
conv(x, W * scale[c]) + (scale[c] * bias[c] + shift[c]), so a chain of such nodes becomes one BiasAdd. The vectors are
composed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.core.data import Array
from converter.tracing.naming import node_of

_CHANNEL_AXIS = {"Conv2D": -1, "Conv3D": -1, "MatMul": -1, "Conv2DBackpropInput": 2, "DepthwiseConv2dNative": None}
"""Where the output channel stands in the kernel; None: the last two axes together."""

_CHANNELS_FIRST = (b"NCHW", b"NCDHW")
_KERNEL_INPUT = {"Conv2DBackpropInput": 1}
_AFFINE = {"BiasAdd", "Add", "AddV2", "Sub", "Mul"}


def fold_affine(graph_def: Any, weights: Mapping[str, Array], keep: set[str]) -> tuple[Any, dict[str, Array]]:
    """Fold the affine chains of `graph_def` into `weights`; nodes named in `keep` stay.

    Returns a new graph and the arrays by placeholder name; arrays that did not change are the ones given.
    A kernel with a second reader, a convolution with a second consumer and channels-first nodes are left alone.
    """
    from tensorflow.core.framework import graph_pb2

    nodes = {node.name: node for node in graph_def.node}
    consumers: dict[str, list[str]] = {}
    for node in graph_def.node:
        for name in node.input:
            consumers.setdefault(node_of(name), []).append(node.name)
    folded = dict(weights)
    removed: set[str] = set()
    replaced: dict[str, list[Any]] = {}
    moved: dict[str, str] = {}
    for node in graph_def.node:
        if node.op not in _CHANNEL_AXIS or (
            "data_format" in node.attr and node.attr["data_format"].s in _CHANNELS_FIRST
        ):
            continue  # reading a missing attribute would add it
        kernel = node.input[_KERNEL_INPUT.get(node.op, 1)]
        if kernel not in folded or len(consumers[kernel]) != 1:
            continue
        if node.op == "MatMul" and (node.attr["transpose_a"].b or node.attr["transpose_b"].b):
            continue
        chain, scale, shift = _chain(node, nodes, consumers, keep, _channels(node.op, folded[kernel]))
        if not chain:
            continue
        if np.any(scale != 1.0):
            folded[kernel] = _scaled(node.op, folded[kernel], scale)
        elif [link.op for link in chain] == ["BiasAdd"]:
            continue
        removed.update(link.name for link in chain)
        bias = f"{node.name.rpartition('/')[0] or node.name}/BiasAdd"
        if (bias in nodes and bias not in removed) or bias in moved.values():
            bias = f"{node.name}/folded/BiasAdd"
        moved[chain[-1].name] = bias
        replaced[chain[-1].name] = _bias_nodes(bias, node, shift.astype(folded[kernel].dtype))
    result = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in replaced:
            result.node.extend(replaced[node.name])
        elif node.name not in removed:
            result.node.append(node)
    for node in result.node:
        node.input[:] = [moved.get(name, name) for name in node.input]
    return _reachable(result, keep), folded


def settle_reshapes(graph_def: Any) -> None:
    """Give every Reshape with at most one unknown output size a constant target, and drop the recorded shapes.

    The number of elements decides the one unknown size, so -1 may stand for it; what computed it becomes dead.
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


def _channels(op: str, kernel: Array) -> int:
    axis = _CHANNEL_AXIS[op]
    return int(kernel.shape[-2] * kernel.shape[-1]) if axis is None else int(kernel.shape[axis])


def _chain(
    start: Any, nodes: Mapping[str, Any], consumers: Mapping[str, list[str]], keep: set[str], channels: int
) -> tuple[list[Any], Array, Array]:
    """The affine nodes that follow `start` one by one, and their composition as float64 (scale, shift)."""
    scale, shift = np.ones(channels), np.zeros(channels)
    chain: list[Any] = []
    current = start
    while current.name not in keep and len(consumers.get(current.name, [])) == 1:
        follower = nodes[consumers[current.name][0]]
        if follower.op not in _AFFINE or follower.name in keep or len(follower.input) != 2:
            break
        first = node_of(follower.input[0]) == current.name
        vector = _channel_vector(nodes.get(node_of(follower.input[1 if first else 0])), channels)
        if vector is None:
            break
        if follower.op == "Mul":
            scale, shift = scale * vector, shift * vector
        elif follower.op == "Sub":
            sign = 1.0 if first else -1.0
            scale, shift = scale * sign, sign * (shift - vector)
        else:
            shift = shift + vector
        chain.append(follower)
        current = follower
    return chain, scale, shift


def _channel_vector(node: Any, channels: int) -> Array | None:
    """A Const node as a float64 vector over the last axis, or None where it varies along another axis."""
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
    axis = _CHANNEL_AXIS[op]
    if axis is None:
        factor = scale.reshape(kernel.shape[-2:])
    elif axis == 2:
        factor = scale[:, None]
    else:
        factor = scale
    return np.multiply(kernel, factor.astype(np.float64), dtype=np.float64).astype(kernel.dtype)


def _bias_nodes(name: str, convolution: Any, shift: Array) -> list[Any]:
    """Const and BiasAdd, called `name`, that stand where the chain ended."""
    import tensorflow as tf
    from tensorflow.core.framework import node_def_pb2

    constant = node_def_pb2.NodeDef(name=f"{convolution.name}/folded_bias", op="Const")
    constant.attr["dtype"].type = convolution.attr["T"].type
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(shift))
    add = node_def_pb2.NodeDef(name=name, op="BiasAdd", input=[convolution.name, constant.name])
    add.attr["T"].CopyFrom(convolution.attr["T"])
    add.attr["data_format"].s = b"NHWC"
    return [constant, add]


def _reachable(graph_def: Any, keep: set[str]) -> Any:
    """`graph_def` without the nodes that none of `keep` needs."""
    from tensorflow.core.framework import graph_pb2

    nodes = {node.name: node for node in graph_def.node}
    needed: set[str] = set()
    waiting = list(keep)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(node_of(tensor) for tensor in nodes[name].input)
    result = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    result.node.extend(node for node in graph_def.node if node.name in needed)
    return result
