"""Operators of the trace that ONNX, or tf2onnx, has not: they are replaced before tf2onnx sees the graph."""

from __future__ import annotations

from converter.core.foreign import GraphDef
from converter.tracing.equivalents import RULES
from converter.tracing.equivalents.convolutions import PADDED
from converter.tracing.lowering import lowered

OPERATORS = (
    "BesselI0", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BroadcastArgs", "Bucketize", "CTCGreedyDecoder",
    "Cholesky", "Cross", "Cumprod", "DenseBincount", "Erfc", "Erfinv", "Expm1", "ExtractImagePatches", "HSVToRGB",
    "ImageProjectiveTransformV3", "InTopKV2", "Invert", "Log1p", "LogMatrixDeterminant", "LowerBound",
    "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "RGBToHSV", "ScatterNd", "UpperBound",
    "XlaDynamicUpdateSlice",
)  # fmt: skip


def replaced(graph_def: GraphDef) -> GraphDef:
    """`graph_def`, or if it has such operators a copy without them."""
    return lowered(graph_def, {**{name: RULES[name] for name in OPERATORS}, **PADDED})
