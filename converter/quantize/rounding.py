"""float16 and int8-weights: the files whose weights alone are rounded, and what that rounding costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from converter.core.data import Artifact, TensorSpec, first_samples
from converter.core.errors import ChildError, ConversionError, InputError
from converter.core.precision import PRECISIONS
from converter.quantize import onnx_half, tflite_half
from converter.quantize.trial import Noise, error, outputs_of
from converter.quantize.weights import Weight, quantized
from converter.quantize.work import INT8, WEIGHTS, Made, Work, Written, recorded

SIMULATIONS = {"onnx": "onnxruntime-noopt", "tflite": "litert"}
"""The runtimes that round where the file says so"""

SMALLEST = 256
"""The fewest elements of a kernel that int8-weights rounds: a smaller one saves nothing"""


def write_half(work: Work) -> Made:
    """Write model.fp16 in every format of `work`. Raises ConversionError where a weight is beyond float16."""
    made = []
    for artifact in work.artifacts:
        started, target = time.perf_counter(), work.target(artifact, "fp16")
        if artifact.format == "onnx":
            ports = work.options.half_ports
            files, operators = onnx_half.write(work.source(artifact), target, ports)
            declared = _half_ports(artifact) if ports else artifact
        else:
            _, operators = tflite_half.write(work.source(artifact), target)
            files, declared = [target], artifact
        written = Written(files, operators, time.perf_counter() - started)
        facts = {"noise": noise_of(work, artifact, None)}
        made.append(recorded(declared, PRECISIONS["fp16"], written, facts))
    return Made(tuple(made))


def write_weights(work: Work) -> Made:
    """Write model.int8-weights in every format of `work`. Raises ConversionError for a model without kernels."""
    made = []
    for artifact in work.artifacts:
        started, target = time.perf_counter(), work.target(artifact, "int8-weights")
        kernels = {
            step.kernel.name: quantized(step.kernel.array, step.kernel.axis)
            for step in INT8[artifact.format].described(work.source(artifact), work.layers)
            if step.kernel is not None and step.kernel.array.size >= SMALLEST
        }
        if not kernels:
            raise ConversionError(
                f"{artifact.path}: no convolution and no dense layer has {SMALLEST} weights or more\nexport float32"
            )
        result = WEIGHTS[artifact.format].write(work.source(artifact), target, kernels)
        files = result[0] if artifact.format == "onnx" else [target]
        written = Written(files, result[1], time.perf_counter() - started)
        facts = {"noise": noise_of(work, artifact, kernels), "kernels": len(kernels)}
        made.append(recorded(artifact, PRECISIONS["int8-weights"], written, facts))
    return Made(tuple(made))


def noise_of(work: Work, artifact: Artifact, kernels: Mapping[str, Weight] | None) -> Noise:
    """What rounding the weights does to the outputs of the float32 file; empty if that file cannot be run."""
    golden, runtime = work.golden, SIMULATIONS[artifact.format]
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        target = Path(scratch, artifact.path)
        WEIGHTS[artifact.format].rounded(work.source(artifact), target, kernels)
        try:
            outputs = outputs_of(artifact, [target], runtime, golden.inputs)[0]
        except (ChildError, InputError):
            return {}  # the proof of the file itself reports why
    return error(work.interface.by_output, first_samples(golden.references, golden.samples), outputs)


def _half_ports(artifact: Artifact) -> Artifact:
    def half(spec: TensorSpec) -> TensorSpec:
        return replace(spec, dtype="float16") if spec.dtype == "float32" else spec

    inputs, outputs = (tuple(map(half, specs)) for specs in (artifact.inputs, artifact.outputs))
    return replace(artifact, inputs=inputs, outputs=outputs)
