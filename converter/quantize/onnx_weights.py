"""model.int8-weights.onnx: kernels in int8 behind a DequantizeLinear, everything else in float32.

`rounded` writes the float32 file that computes with the same rounded weights: what the rounding alone costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.foreign import OnnxModel, OnnxNode
from converter.quantize.onnx_file import inferred, load, replace_nodes, save
from converter.quantize.onnx_half import LAST
from converter.quantize.weights import Weight


def write(source: Path, target: Path, kernels: Mapping[str, Weight]) -> tuple[list[Path], dict[str, int]]:
    """Write the float32 file `source` with `kernels` in int8, by name; returns the files and the operator histogram."""
    import onnx

    model, weights = load(source)
    made: list[OnnxNode] = []
    for name, weight in kernels.items():
        names = [f"{name}/q", f"{name}/s"]
        weights[names[0]], weights[names[1]] = weight.values, weight.scales
        del weights[name]
        made.append(onnx.helper.make_node("DequantizeLinear", names, [name], axis=weight.axis))
    replace_nodes(model.graph, [*made, *model.graph.node])
    return save(model, weights, target)


def rounded(source: Path, target: Path, kernels: Mapping[str, Weight] | None) -> None:
    """Write `source` in float32 with rounded weights: `kernels`, or if that is None every weight, to float16.

    With float16 weights the results of all nodes are rounded to float16 as well, but for those that end the model and
    stay in float32.
    """
    model, weights = load(source)
    if kernels is None:
        _round_results(model, inferred(model, weights)[0])
        weights = {name: _through_half(array) for name, array in weights.items()}
    else:
        weights |= {name: weight.real for name, weight in kernels.items()}
    save(model, weights, target)


def _round_results(model: OnnxModel, types: Mapping[str, int]) -> None:
    """Round what every node computes to float16, by a Cast there and one back, in place."""
    import onnx

    made: list[OnnxNode] = []
    outputs = {each.name for each in model.graph.output}
    for node in model.graph.node:
        results = [name for name in node.output if types.get(name) == onnx.TensorProto.FLOAT]
        if node.op_type in LAST and outputs & set(node.output):
            results = []
        raw = {name: f"{name}/exact" for name in results}
        node.output[:] = [raw.get(name, name) for name in node.output]
        made.append(node)
        for name, exact in raw.items():
            made.append(onnx.helper.make_node("Cast", [exact], [f"{name}/half"], to=onnx.TensorProto.FLOAT16))
            made.append(onnx.helper.make_node("Cast", [f"{name}/half"], [name], to=onnx.TensorProto.FLOAT))
    replace_nodes(model.graph, made)


def _through_half(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float32)
