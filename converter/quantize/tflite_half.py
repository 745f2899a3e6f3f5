"""model.fp16.tflite: the constants in float16, each behind a DEQUANTIZE that runtimes fold into their kernels.

TFLite computes in float32 then, or in float16 where the delegate can. Small constants stay as they are: a tensor and
an operator more take as many bytes as they would save.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.quantize.onnx_half import half
from converter.quantize.tflite_file import FLOAT16, FLOAT32, TfliteFile

SMALLEST = 128  # elements
DEQUANTIZE_HALF = 3  # the version of DEQUANTIZE that reads float16


def write(source: Path, target: Path) -> tuple[int, dict[str, int]]:
    """Write the float32 file `source` with float16 constants; returns the size and the operator histogram.

    Inputs and outputs are float32. Raises ConversionError where a constant is beyond float16.
    """
    file = TfliteFile(source)
    made = []
    halved: dict[int, int] = {}
    for operator in file.operators:
        inputs = [int(index) for index in operator.inputs]
        for place, index in enumerate(inputs):
            array = None if index in halved else file.constant(index)
            if array is not None and file.tensors[index].type == FLOAT32 and array.size >= SMALLEST:
                full = file.add(index, f"{file.name(index)}/float32", FLOAT32)
                file.set(index, half(file.name(index), np.asarray(array)), FLOAT16)
                halved[index] = full
                made.append(file.operator("DEQUANTIZE", DEQUANTIZE_HALF, [index], [full]))
            inputs[place] = halved.get(index, index)
        operator.inputs = inputs
    file.graph.operators = [*made, *file.operators]
    return file.save(target)
