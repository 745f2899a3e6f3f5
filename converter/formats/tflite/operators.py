"""Operators of the trace that TFLite has not as builtins: they are replaced before TensorFlow's converter sees them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.core.data import Array
from converter.core.foreign import GraphDef, NodeDef
from converter.tracing.equivalents import RULES
from converter.tracing.lowering import lowered

OPERATORS = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AvgPool3D", "BatchMatMulV3", "BatchToSpaceND", "BesselI0",
    "BitwiseAnd", "BitwiseOr", "CTCGreedyDecoder", "Cholesky", "Conv2DBackpropInput", "Cosh", "Cross", "Cumprod",
    "DenseBincount", "Erfinv", "ExtractImagePatches", "HSVToRGB", "ImageProjectiveTransformV3", "InTopKV2",
    "Invert", "LeftShift", "LogMatrixDeterminant", "LowerBound", "MatrixDeterminant", "MatrixDiagPartV3",
    "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "MaxPool3D", "RGBToHSV", "Sinh", "SpaceToBatchND",
    "SparseSoftmaxCrossEntropyWithLogits", "Tan", "UpperBound",
)  # fmt: skip

FUSED = ("Erf", "Erfc")
"""Operators that TFLite has only within a GELU, which its converter recognizes"""


def replaced(graph_def: GraphDef, *, fused: bool = False) -> GraphDef:
    """`graph_def`, or if it has such operators a copy without them; with `fused`, without those of `FUSED` as well."""
    return lowered(graph_def, {name: RULES[name] for name in (*OPERATORS, *(FUSED if fused else ()))})


def with_biases(graph_def: GraphDef, weights: Mapping[str, Array]) -> tuple[GraphDef, dict[str, Array]]:
    """A bias of zeros, as a further weight, between each product with a weight and its Relu.

    Where the kernel is an input, TensorFlow's converter forgets the activation of a product without a bias. Returns
    the graph, a copy if there are such products, and all weights.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    products = {
        node.input[0]
        for node in graph_def.node
        if node.op in ("Relu", "Relu6") and _product_with(nodes.get(node.input[0]), weights)
    }
    found = dict(weights)
    if not products:
        return graph_def, found
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    for node in result.node:
        if node.op in ("Relu", "Relu6") and node.input[0] in products:
            node.input[0] = f"{node.input[0]}/biased"
    for name in sorted(products):
        kernel, columns = found[nodes[name].input[1]], 0 if nodes[name].attr["transpose_b"].b else 1
        zeros = np.zeros(kernel.shape[columns], kernel.dtype)
        found[f"{name}/zeros"] = zeros
        bias = result.node.add(op="Placeholder", name=f"{name}/zeros")
        bias.attr["dtype"].CopyFrom(nodes[name].attr["T"])
        bias.attr["shape"].shape.CopyFrom(tf.TensorShape(zeros.shape).as_proto())
        added = result.node.add(op="BiasAdd", name=f"{name}/biased", input=[name, bias.name])
        added.attr["T"].CopyFrom(nodes[name].attr["T"])
    return result, found


def _product_with(node: NodeDef | None, weights: Mapping[str, Array]) -> bool:
    return node is not None and node.op == "MatMul" and node.input[1] in weights
