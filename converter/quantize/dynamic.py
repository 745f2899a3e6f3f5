"""int8-dynamic: dense layers in int8 whose activations get their scale while the model runs; the rest in float32.

No calibration is needed, but the scale follows from each batch. That suits networks that are mostly dense layers; of
convolutions it costs more than it saves, so a network of those is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.core.errors import ConversionError
from converter.core.foreign import OnnxNode
from converter.core.precision import PRECISIONS
from converter.quantize.onnx_file import load, replace_nodes, save
from converter.quantize.rounding import noise_of
from converter.quantize.tflite_file import INT8 as INT8_TYPE
from converter.quantize.tflite_file import TfliteFile, schema
from converter.quantize.tflite_graph import tensor_names
from converter.quantize.weights import Weight, quantized
from converter.quantize.work import INT8, Made, Work, Written, recorded

NAME = "int8-dynamic"
LEAST = 0.5
"""The share of the weights that dense layers have to hold"""

_DENSE = 2  # axes of a kernel
_FULLY_CONNECTED_CHANNELS = 12  # the version of FULLY_CONNECTED with a scale for each channel


def write_dynamic(work: Work) -> Made:
    """Write model.int8-dynamic in every format of `work`. Raises ConversionError where dense layers do not dominate."""
    made = []
    for artifact in work.artifacts:
        started, source, target = time.perf_counter(), work.source(artifact), work.target(artifact, NAME)
        found = {
            step.kernel.name: step.kernel
            for step in INT8[artifact.format].described(source, work.layers)
            if step.kernel is not None
        }
        dense = {name: kernel for name, kernel in found.items() if kernel.array.ndim == _DENSE}
        whole = sum(kernel.array.size for kernel in found.values())
        share = sum(kernel.array.size for kernel in dense.values()) / whole if whole else 0.0
        if share < LEAST:
            raise ConversionError(
                f"{artifact.path}: dense layers hold {share:.0%} of the weights; of convolutions, scales that change "
                "with each batch cost more than they save\nuse int8 with --calibration, or int8-weights"
            )
        safe = work.options.target == "any"
        kernels = {name: quantized(kernel.array, kernel.axis, safe=safe) for name, kernel in dense.items()}
        if artifact.format == "onnx":
            files, operators = _onnx(source, target, kernels)
        else:
            files, operators = [target], _tflite(source, target, kernels)
        written = Written(files, operators, time.perf_counter() - started)
        facts = {"noise": noise_of(work, artifact, kernels), "kernels": len(kernels), "dense_share": share}
        made.append(recorded(artifact, PRECISIONS[NAME], written, facts))
    return Made(tuple(made))


def _onnx(source: Path, target: Path, kernels: Mapping[str, Weight]) -> tuple[list[Path], dict[str, int]]:
    """MatMul and Gemm with these kernels as DynamicQuantizeLinear and MatMulInteger."""
    import onnx

    model, weights = load(source)
    make = onnx.helper.make_node
    for name, weight in kernels.items():
        columns = weight.values if weight.axis else weight.values.T
        weights[f"{name}/q"], weights[f"{name}/s"] = np.ascontiguousarray(columns), weight.scales
    made: list[OnnxNode] = []
    for node in model.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type not in ("MatMul", "Gemm") or name not in kernels:
            made.append(node)
            continue
        at = f"{node.output[0]}/dynamic"  # a layer may be called twice
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        result = f"{at}/product" if bias else node.output[0]
        made += [
            make("DynamicQuantizeLinear", [node.input[0]], [f"{at}/x", f"{at}/s", f"{at}/z"]),
            make("MatMulInteger", [f"{at}/x", f"{name}/q", f"{at}/z"], [f"{at}/sum"], name=node.name),
            make("Cast", [f"{at}/sum"], [f"{at}/float"], to=onnx.TensorProto.FLOAT),
            make("Mul", [f"{at}/s", f"{name}/s"], [f"{at}/scale"]),
            make("Mul", [f"{at}/float", f"{at}/scale"], [result]),
            *([make("Add", [result, bias], list(node.output))] if bias else []),
        ]
    replace_nodes(model.graph, made)
    return save(model, weights, target)


def _tflite(source: Path, target: Path, kernels: Mapping[str, Weight]) -> dict[str, int]:
    """FULLY_CONNECTED with these kernels in int8, which LiteRT then computes in int8 on float inputs."""
    file = TfliteFile(source)
    places = {name: index for index, name in enumerate(tensor_names(file))}
    for name, weight in kernels.items():
        file.set(places[name], weight.values, INT8_TYPE)
        parameters = schema().QuantizationParametersT()
        parameters.scale = [float(each) for each in weight.scales]
        parameters.zeroPoint, parameters.quantizedDimension = [0] * len(weight.scales), weight.axis
        file.tensors[places[name]].quantization = parameters
    changed = {places[name] for name in kernels}
    for operator in file.operators:
        if file.kind(operator) == "FULLY_CONNECTED" and int(operator.inputs[1]) in changed:
            operator.builtinOptions.asymmetricQuantizeInputs = True
            file.code(schema().BuiltinOperator.FULLY_CONNECTED, _FULLY_CONNECTED_CHANNELS)
    return file.save(target)[1]
