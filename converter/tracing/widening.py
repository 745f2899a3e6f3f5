"""A TensorFlow graph in a wider floating-point type, attributes and constants alike; no Keras and no format here.

Half precision becomes float32 for the artifacts; float32 becomes float64 for the exact outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from converter.core.data import Array
from converter.core.foreign import FunctionDef, GraphDef, NodeDef
from converter.tracing.functions import all_nodes, name_by_content

HALVES = ("float16", "bfloat16")
OTHERS = (*HALVES, "float64")
"""Types that a Keras model may compute in, and whose artifacts compute in float32"""

_ALWAYS_SINGLE = {"ResizeBilinear", "ResizeBicubic", "ResizeArea"}
"""Operators whose result is float32 for every input type"""


def as_single(array: Array) -> Array:
    """`array` in float32 if it has another floating-point type, otherwise `array` itself; shape unchanged."""
    return array.astype(np.float32) if str(array.dtype) in OTHERS else array


def computes_in_double(graph_def: GraphDef, arguments: Collection[str], results: Collection[str]) -> bool:
    """Whether the model that `graph_def` was traced from is one of float64: its weights, an input, or an output are.

    Other models compute a place or a size in float64.
    """
    import tensorflow as tf

    double = tf.float64.as_datatype_enum
    for node in graph_def.node:
        weight = node.op == "ReadVariableOp" and node.attr["dtype"].type == double
        given = node.op == "Cast" and node.input[0] in arguments and node.attr["DstT"].type == double
        yielded = node.name in results and "T" in node.attr and node.attr["T"].type == double
        if weight or given or yielded:
            return True
    return False


def half_in(graph_def: GraphDef) -> str:
    """The half precision that a node of `graph_def` computes in: "float16", "bfloat16", or "" if there is none."""
    import tensorflow as tf

    kinds = {tf.as_dtype(name).as_datatype_enum: name for name in HALVES}
    for node in all_nodes(graph_def):
        for value in node.attr.values():
            if value.WhichOneof("value") == "type" and value.type in kinds:
                return kinds[value.type]
    return ""


def widened(graph_def: GraphDef, wider: Mapping[str, str]) -> GraphDef:
    """A copy of `graph_def`, functions included, in which each type that is a key of `wider` is replaced by its value.

    A Cast between two types that are now the same becomes an Identity. An operator that always yields float32 is
    followed by a Cast where float32 is replaced: its own arithmetic stays float32.
    """
    import tensorflow as tf

    kinds = {tf.as_dtype(old).as_datatype_enum: tf.as_dtype(new).as_datatype_enum for old, new in wider.items()}
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    for node in list(result.node):
        if node.op == "Bitcast":
            result.node.extend(_same_bits(node, kinds))
            continue
        _widen_attributes(node, kinds)
        if node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type:
            kind = node.attr["DstT"].type
            node.op = "Identity"
            for name in ("SrcT", "DstT", "Truncate"):
                node.attr.pop(name, None)
            node.attr["T"].type = kind
        elif node.op in _ALWAYS_SINGLE and "float32" in wider:
            single = result.node.add()
            single.CopyFrom(node)
            single.name = f"{node.name}/float32"
            become_cast(node, single.name, "float32", wider["float32"])
    for function in result.library.function:
        _widen_function(function, kinds, wider)
    name_by_content(result)
    return result


def _widen_function(function: FunctionDef, kinds: Mapping[int, int], wider: Mapping[str, str]) -> None:
    """The same for a function, whose nodes refer to an output as `node:argument:index`.

    A Cast between two equal types stays: it copies nothing.
    """
    for argument in (*function.signature.input_arg, *function.signature.output_arg):
        argument.type = kinds.get(argument.type, argument.type)
    renamed = {}
    for node in list(function.node_def):
        _widen_attributes(node, kinds)
        if node.op in _ALWAYS_SINGLE and "float32" in wider:
            single = function.node_def.add()
            single.CopyFrom(node)
            single.name = f"{node.name}/float32"
            become_cast(node, f"{single.name}:resized_images:0", "float32", wider["float32"])
            renamed[f"{node.name}:resized_images:0"] = f"{node.name}:y:0"
    for node in function.node_def:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for name, source in function.ret.items():
        function.ret[name] = renamed.get(source, source)


def _same_bits(node: NodeDef, kinds: Mapping[int, int]) -> list[NodeDef]:
    """Keep the types of a Bitcast, with a Cast before it, and after it, where they are replaced elsewhere.

    Returns the nodes that are added; `node` keeps its name.
    """
    import tensorflow as tf

    old, new = node.attr["T"].type, node.attr["type"].type
    name = {number: tf.as_dtype(number).name for number in (*kinds, *kinds.values())}
    added = []
    if old in kinds:
        before = type(node)(name=f"{node.name}/before")
        become_cast(before, node.input[0], name[kinds[old]], name[old])
        node.input[0] = before.name
        added.append(before)
    if new in kinds:
        inner = type(node)()
        inner.CopyFrom(node)
        inner.name = f"{node.name}/bits"
        become_cast(node, inner.name, name[new], name[kinds[new]])
        added.append(inner)
    return added


def become_cast(node: NodeDef, source: str, old: str, new: str) -> None:
    """Turn `node` into a Cast of the node `source` from the type `old` to the type `new`."""
    import tensorflow as tf

    node.op, node.input[:] = "Cast", [source]
    node.attr.clear()
    node.attr["SrcT"].type = tf.as_dtype(old).as_datatype_enum
    node.attr["DstT"].type = tf.as_dtype(new).as_datatype_enum


def _widen_attributes(node: NodeDef, kinds: Mapping[int, int]) -> None:
    """Replace types, the elements of constants, and lists of types; `kinds` are numbers of tensorflow.DataType."""
    import tensorflow as tf

    for value in node.attr.values():
        which = value.WhichOneof("value")
        if which == "type":
            value.type = kinds.get(value.type, value.type)
        elif which == "tensor" and value.tensor.dtype in kinds:
            dtype = tf.as_dtype(kinds[value.tensor.dtype]).as_numpy_dtype
            value.tensor.CopyFrom(tf.make_tensor_proto(np.asarray(tf.make_ndarray(value.tensor)).astype(dtype)))
        elif which == "list":
            for index, kind in enumerate(value.list.type):
                value.list.type[index] = kinds.get(kind, kind)
