"""Products with a large kernel computed piece by piece, so that float64 needs little more memory than float32.

The first Dense layer of VGG-16 has 411 MB of weights; a float64 copy of them would be the largest array of the export.
"""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.data import Arrays
from converter.core.foreign import GraphDef, NodeDef

PIECE = 32 << 20
"""Bytes of a float32 kernel that are cast and multiplied at once."""


def split_products(graph_def: GraphDef, stored: Mapping[str, str], weights: Arrays) -> None:
    """Replace each MatMul with a large kernel by products with some of its columns, one after the other.

    `stored` are the float32 Placeholders by the name of the float64 kernel. A column of the result is the same sum as
    before. `graph_def` is changed in place.
    """
    for node in list(graph_def.node):
        kernel = node.input[1] if node.op == "MatMul" else ""
        if kernel in stored and weights[kernel].nbytes > PIECE and not node.attr["transpose_b"].b:
            _split(graph_def, node, stored[kernel], weights[kernel].shape[1], -(-weights[kernel].nbytes // PIECE))


def _split(graph_def: GraphDef, node: NodeDef, kernel: str, columns: int, count: int) -> None:
    import tensorflow as tf

    products: list[str] = []
    for index in range(min(count, columns)):
        start, end = (columns * place // min(count, columns) for place in (index, index + 1))
        name = f"{node.name}/piece{index}"
        before = products[-1] if products else node.input[0].split(":")[0]
        first = _constant(graph_def, f"{name}/begin", [0, start])
        size = _constant(graph_def, f"{name}/size", [-1, end - start])
        slice_ = graph_def.node.add(name=f"{name}/float32", op="Slice", input=[kernel, first, size, f"^{before}"])
        slice_.attr["T"].type = tf.float32.as_datatype_enum
        slice_.attr["Index"].type = tf.int32.as_datatype_enum
        cast = graph_def.node.add(name=f"{name}/kernel", op="Cast", input=[slice_.name])
        cast.attr["SrcT"].type = tf.float32.as_datatype_enum
        cast.attr["DstT"].type = tf.float64.as_datatype_enum
        product = graph_def.node.add()
        product.CopyFrom(node)
        product.name = name
        product.input[1] = cast.name
        products.append(name)
    axis = _constant(graph_def, f"{node.name}/axis", 1)
    kind = node.attr["T"].type
    node.op = "ConcatV2"
    node.input[:] = [*products, axis]
    node.attr.clear()
    node.attr["T"].type = kind
    node.attr["Tidx"].type = tf.int32.as_datatype_enum
    node.attr["N"].i = len(products)


def _constant(graph_def: GraphDef, name: str, value: int | list[int]) -> str:
    """Add an int32 Const; returns its name."""
    import tensorflow as tf

    constant = graph_def.node.add(name=name, op="Const")
    constant.attr["dtype"].type = tf.int32.as_datatype_enum
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int32))
    return name
