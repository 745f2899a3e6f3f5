"""model.int8.tflite: the float file with its tensors in int8, QUANTIZE and DEQUANTIZE where float begins and ends.

A tensor that only int8 operators touch becomes int8 itself. Kernels are int8 by output channel, biases int32. The
inputs and outputs of the model stay float32 unless they are asked for in int8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.foreign import FlatbufferObject
from converter.quantize.plan import Operator, Plan
from converter.quantize.ranges import Scale, scale_of
from converter.quantize.tflite_file import INT8, INT32, TfliteFile, schema
from converter.quantize.tflite_graph import INT8_VERSIONS, operators, tensor_names
from converter.quantize.weights import Weight, bias_of


def described(source: Path, layers: Mapping[str, str]) -> list[Operator]:
    """The operators of the file `source`, as `converter.quantize.plan` takes them."""
    return operators(TfliteFile(source), layers)


def write(
    source: Path, target: Path, steps: Sequence[Operator], plan: Plan, kernels: Mapping[str, Weight]
) -> tuple[int, dict[str, int]]:
    """Write the float32 file `source` as `plan` says; returns the size and the operator histogram.

    `steps` are those of `described`, `kernels` the int8 kernels by the name of the float one.
    """
    file = TfliteFile(source)
    writer = _Writer(file, plan)
    chosen = {steps[index].nodes[0]: steps[index] for index in plan.int8}
    writer.divide(chosen)
    for index in [int(each) for each in file.graph.inputs]:
        writer.enter(index)
    for place, operator in enumerate(file.operators):
        if place in chosen:
            writer.int8(chosen[place], operator, kernels)
        else:
            writer.made.append(operator)
            for index in operator.outputs:
                writer.enter(int(index))
    file.graph.operators = writer.made
    return file.save(target)


class _Writer:
    """The operators of the file so far; `stored` has the int8 tensor of each float tensor that has one."""

    def __init__(self, file: TfliteFile, plan: Plan) -> None:
        self.file, self.plan = file, plan
        self.names = tensor_names(file)
        self.places = {name: index for index, name in enumerate(self.names)}
        self.stored: dict[int, int] = {}
        self.after: dict[int, tuple[int, int]] = {}
        self.done: set[int] = set()
        self.made: list[FlatbufferObject] = []

    def divide(self, chosen: Mapping[int, Operator]) -> None:
        """Find for each result of an int8 operator whether float is needed of it as well."""
        file = self.file
        in_float = {int(index) for index in file.graph.outputs}
        for place, operator in enumerate(file.operators):
            if place not in chosen:
                in_float.update(int(index) for index in operator.inputs)
        for step in chosen.values():
            for name in step.outputs:
                index, scale = self.places[name], self.plan.scales[name]
                if index in in_float:
                    self.stored[index] = file.add(index, f"{name}/int8", INT8)
                    self._quantize(self.stored[index], scale)
                    self.after[index] = (self.stored[index], index)
                else:
                    self.stored[index] = index

    def enter(self, index: int) -> None:
        """Quantize a tensor of a float operator, or an input, if int8 operators read it."""
        name = self.names[index]
        if name in self.plan.scales and index not in self.stored:
            self.stored[index] = self.file.add(index, f"{name}/int8", INT8)
            self._quantize(self.stored[index], self.plan.scales[name])
            self.made.append(self.file.operator("QUANTIZE", 1, [index], [self.stored[index]]))

    def int8(self, step: Operator, operator: FlatbufferObject, kernels: Mapping[str, Weight]) -> None:
        """Make one operator compute in int8."""
        kind = self.file.kind(operator)
        self.file.code(getattr(schema().BuiltinOperator, kind), INT8_VERSIONS.get(kind, 2))
        if step.kernel is not None:
            self._with_kernel(step, operator, kernels)
        for name, array in (step.constants or {}).items():
            place = [int(index) for index in operator.inputs].index(self.places[name])
            operator.inputs = list(operator.inputs)
            operator.inputs[place] = self._operand(self.places[name], array)
        operator.inputs = [self.stored.get(int(index), int(index)) for index in operator.inputs]
        written = [int(index) for index in operator.outputs]
        operator.outputs = [self.stored.get(index, index) for index in written]
        for index in written:
            if self.stored.get(index) == index:
                self.file.tensors[index].type = INT8
                self._quantize(index, self.plan.scales[self.names[index]])
        self.made.append(operator)
        for index in written:
            if index in self.after:
                stored, real = self.after[index]
                self.made.append(self.file.operator("DEQUANTIZE", 2, [stored], [real]))

    def _with_kernel(self, step: Operator, operator: FlatbufferObject, kernels: Mapping[str, Weight]) -> None:
        kernel = step.kernel
        assert kernel is not None
        weight, index = kernels[kernel.name], self.places[kernel.name]
        if index not in self.done:
            self.done.add(index)
            self._constant(index, weight.values, INT8, weight.scales, weight.axis)
        if kernel.bias:
            assert kernel.bias_array is not None
            values, scales = bias_of(kernel.bias_array, self.plan.scales[step.inputs[0]].scale, weight.scales)
            bias = self.file.add(self.places[kernel.bias], self.file.name(self.places[kernel.bias]), INT32)
            self._constant(bias, values, INT32, scales, 0)
            operator.inputs = [*operator.inputs[:2], bias, *operator.inputs[3:]]

    def _operand(self, index: int, array: Array) -> int:
        """The index of a constant operand in int8, of one scale."""
        scale = scale_of(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
        values = np.clip(np.rint(array.astype(np.float64) / scale.scale) + scale.zero_point, -128, 127)
        made = self.file.add(index, f"{self.file.name(index)}/int8", INT8)
        self.file.set(made, values.astype(np.int8), INT8)
        self._quantize(made, scale)
        return made

    def _constant(self, index: int, values: Array, kind: int, scales: Array, axis: int) -> None:
        self.file.set(index, values, kind)
        self._parameters(index, [float(each) for each in scales], [0] * len(scales), axis)

    def _quantize(self, index: int, scale: Scale) -> None:
        self._parameters(index, [scale.scale], [scale.zero_point], 0)

    def _parameters(self, index: int, scales: Iterable[float], zero_points: Iterable[int], axis: int) -> None:
        parameters = schema().QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = list(scales), list(zero_points)
        parameters.quantizedDimension = axis
        self.file.tensors[index].quantization = parameters
