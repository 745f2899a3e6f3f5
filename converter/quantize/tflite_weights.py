"""model.int8-weights.tflite: kernels in int8 behind a DEQUANTIZE, everything else in float32.

`rounded` writes the float32 file that computes with the same rounded weights: what the rounding alone costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.quantize.tflite_file import FLOAT32, INT8, TfliteFile, schema
from converter.quantize.tflite_graph import tensor_names
from converter.quantize.weights import Weight

_DEQUANTIZE_CHANNELS = 5  # the version of DEQUANTIZE with a scale for each channel


def write(source: Path, target: Path, kernels: Mapping[str, Weight]) -> tuple[int, dict[str, int]]:
    """Write the float32 file `source` with `kernels` in int8, by name; returns the size and the operator histogram."""
    file = TfliteFile(source)
    places = {name: index for index, name in enumerate(tensor_names(file))}
    made, real = [], {}
    for name, weight in kernels.items():
        index = places[name]
        real[index] = file.add(index, f"{file.name(index)}/float32", FLOAT32)
        file.set(index, weight.values, INT8)
        parameters = schema().QuantizationParametersT()
        parameters.scale = [float(each) for each in weight.scales]
        parameters.zeroPoint, parameters.quantizedDimension = [0] * len(weight.scales), weight.axis
        file.tensors[index].quantization = parameters
        made.append(file.operator("DEQUANTIZE", _DEQUANTIZE_CHANNELS, [index], [real[index]]))
    for operator in file.operators:
        operator.inputs = [real.get(int(index), int(index)) for index in operator.inputs]
    file.graph.operators = [*made, *file.operators]
    return file.save(target)


def rounded(source: Path, target: Path, kernels: Mapping[str, Weight] | None) -> None:
    """Write `source` in float32 with rounded weights: `kernels`, or if that is None every constant, to float16."""
    file = TfliteFile(source)
    for index, name in enumerate(tensor_names(file)):
        array = file.constant(index)
        if array is None or file.tensors[index].type != FLOAT32:
            continue
        if kernels is None:
            file.set(index, array.astype(np.float16).astype(np.float32), FLOAT32)
        elif name in kernels:
            file.set(index, kernels[name].real, FLOAT32)
    file.save(target)
