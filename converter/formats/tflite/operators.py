"""Operators of the trace that TFLite has not as builtins: they are replaced before TensorFlow's converter sees them."""

from __future__ import annotations

from converter.core.foreign import GraphDef
from converter.tracing.equivalents import RULES
from converter.tracing.lowering import lowered

OPERATORS = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AvgPool3D", "BatchToSpaceND", "BesselI0", "BitwiseAnd",
    "BitwiseOr", "Cholesky", "Conv2DBackpropInput", "Cosh", "Cross", "Cumprod", "DenseBincount", "Erfinv",
    "ExtractImagePatches", "HSVToRGB", "InTopKV2", "Invert", "LeftShift", "LogMatrixDeterminant", "LowerBound",
    "MatrixDeterminant", "MatrixDiagPartV3", "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "MaxPool3D",
    "RGBToHSV", "Sinh", "SpaceToBatchND", "SparseSoftmaxCrossEntropyWithLogits", "Tan", "UpperBound",
)  # fmt: skip

FUSED = ("Erf", "Erfc")
"""Operators that TFLite has only within a GELU, which its converter recognizes"""


def replaced(graph_def: GraphDef, *, fused: bool = False) -> GraphDef:
    """`graph_def`, or if it has such operators a copy without them; with `fused`, without those of `FUSED` as well."""
    return lowered(graph_def, {name: RULES[name] for name in (*OPERATORS, *(FUSED if fused else ()))})
