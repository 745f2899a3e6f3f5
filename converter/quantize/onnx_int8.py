"""model.int8.onnx: QuantizeLinear and DequantizeLinear around what computes in int8.

An int8 tensor has its float name after the DequantizeLinear, so that every reader, in float or not, reads what int8
kept of it. Kernels are int8 by output channel, biases int32 with the scale of the activations times that of the
kernel. MatMul and Add of a bias become Gemm, the form that runtimes have an int8 kernel for.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.foreign import OnnxNode
from converter.quantize.onnx_file import inferred, load, replace_nodes, save
from converter.quantize.onnx_graph import OnnxFacts, operators, readers_of
from converter.quantize.plan import Operator, Plan
from converter.quantize.ranges import Scale, scale_of
from converter.quantize.weights import Weight, bias_of

ABOVE = 128
"""How much more than in int8 a value is in uint8"""


def described(source: Path, layers: Mapping[str, str]) -> list[Operator]:
    """The operators of the file `source`, as `converter.quantize.plan` takes them."""
    model, weights = load(source)
    return operators(model, OnnxFacts(weights, *inferred(model, weights), layers))


def write(
    source: Path, target: Path, steps: Sequence[Operator], plan: Plan, kernels: Mapping[str, Weight]
) -> tuple[list[Path], dict[str, int]]:
    """Write the float32 file `source` as `plan` says; returns the files and the operator histogram.

    `steps` are those of `described`, `kernels` the int8 kernels by the name of the float one.
    """
    model, weights = load(source)
    writer = _Writer(weights, {each.name for each in model.graph.output}, readers_of(model.graph.node))
    chosen = {steps[index].nodes[0]: steps[index] for index in plan.int8}
    members = {node for step in chosen.values() for node in step.nodes}
    nodes = list(model.graph.node)
    made = {name for index in plan.int8 for name in steps[index].outputs}
    for name in [each.name for each in model.graph.input]:
        if name in plan.scales and name not in made:
            writer.enter(name, plan.scales[name])
    for index, node in enumerate(nodes):
        if index in chosen:
            step = chosen[index]
            writer.int8(step, [nodes[each] for each in step.nodes], plan, kernels)
        elif index not in members:
            writer.nodes.append(node)
            for name in node.output:
                if name in plan.scales:
                    writer.enter(name, plan.scales[name])
    replace_nodes(model.graph, writer.nodes)
    return save(model, writer.weights, target)


class _Writer:
    """The nodes and constants of the file so far; `entered` are tensors of float operators that int8 reads."""

    def __init__(self, weights: Mapping[str, Array], outputs: set[str], readers: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.outputs, self.readers = outputs, readers
        self.nodes: list[OnnxNode] = []
        self.entered: dict[str, str] = {}
        self.stored: set[str] = set()
        self.parameters: dict[Scale, list[str]] = {}

    def enter(self, name: str, scale: Scale) -> None:
        """Quantize a tensor of a float operator for the int8 operators that read it."""
        self.entered[name] = f"{name}/dequantized"
        self._pair(name, self.entered[name], name, scale)

    def int8(self, step: Operator, nodes: Sequence[OnnxNode], plan: Plan, kernels: Mapping[str, Weight]) -> None:
        """Write one operator that computes in int8."""
        for node in nodes:
            for place, name in enumerate(node.input):
                node.input[place] = self.entered.get(name, name)
        if step.kernel is not None:
            nodes = self._with_kernel(step, nodes, plan, kernels)
        for name, array in (step.constants or {}).items():
            self._operand(name, array)
        last = nodes[-1]
        raw = {name: f"{name}/float" for name in step.outputs if name in plan.scales}
        last.output[:] = [raw.get(name, name) for name in last.output]
        self.nodes += nodes
        for name, before in raw.items():
            self._pair(before, name, name, plan.scales[name])

    def _with_kernel(
        self, step: Operator, nodes: Sequence[OnnxNode], plan: Plan, kernels: Mapping[str, Weight]
    ) -> Sequence[OnnxNode]:
        import onnx

        kernel, weight = step.kernel, kernels[step.kernel.name]  # type: ignore[union-attr]
        assert kernel is not None
        if kernel.name not in self.stored:
            self.stored.add(kernel.name)
            self._constant(kernel.name, weight.values, weight.scales, weight.axis)
            if nodes[0].op_type in (
                "MatMul",
                "Gemm",
            ):  # onnxruntime has an int8 Gemm only where the kernel states its zero point
                self.nodes[-1].input.append(f"{kernel.name}/z")
                self.weights[f"{kernel.name}/z"] = np.zeros(len(weight.scales), np.int8)
        if not kernel.bias:
            return nodes
        assert kernel.bias_array is not None
        stored, scales = bias_of(kernel.bias_array, plan.scales[step.inputs[0]].scale, weight.scales)
        bias = f"{first_free(step.layer, self.weights)}/b"
        self._constant(bias, stored, scales, 0)
        first = nodes[0]
        if first.op_type == "MatMul":
            inputs = [first.input[0], first.input[1], bias]
            gemm = onnx.helper.make_node("Gemm", inputs, list(nodes[1].output), name=first.name)
            return [gemm, *nodes[2:]]
        first.input[2] = bias
        return nodes

    def _operand(self, name: str, array: Array) -> None:
        """Store an operand of an addition or a multiplication in int8, unless float operators may read it too."""
        if self.readers[name] != 1:
            return
        scale = scale_of(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
        stored = np.clip(np.rint(array.astype(np.float64) / scale.scale) + scale.zero_point, -128, 127).astype(np.int8)
        self.weights.pop(name, None)
        self.weights[f"{name}/q"] = (stored.astype(np.int16) + ABOVE).astype(np.uint8)
        self._dequantized([f"{name}/q", *self._parameters(scale)], name)

    def _constant(self, name: str, stored: Array, scales: Array, axis: int) -> None:
        """Store a kernel or a bias, with a scale for each index of `axis`; float readers see it under its name."""
        names = [f"{name}/q", f"{name}/s"]
        self.weights[names[0]], self.weights[names[1]] = stored, scales
        self.weights.pop(name, None)
        self._dequantized(names, name, axis=axis)

    def _dequantized(self, inputs: Sequence[str], target: str, **attributes: int) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [target], **attributes))

    def _parameters(self, scale: Scale) -> list[str]:
        """The names of the constants of a scale; tensors of the same scale share them."""
        if scale not in self.parameters:
            number = len(self.parameters)
            self.parameters[scale] = [f"int8/s{number}", f"int8/z{number}"]
            self.weights[f"int8/s{number}"] = np.asarray(scale.scale, np.float32)
            self.weights[f"int8/z{number}"] = np.asarray(scale.zero_point + ABOVE, np.uint8)
        return self.parameters[scale]

    def _pair(self, source: str, target: str, name: str, scale: Scale) -> None:
        """QuantizeLinear of `source` and DequantizeLinear to `target`, the tensor between them named after `name`."""
        import onnx

        stored, parameters = f"{name}/q", self._parameters(scale)
        self.nodes.append(onnx.helper.make_node("QuantizeLinear", [source, *parameters], [stored]))
        self._dequantized([stored, *parameters], target)


def first_free(layer: str, weights: Mapping[str, Array]) -> str:
    """`layer`, or it with a number behind it, so that its bias `<that>/b` is new."""
    names = itertools.chain([layer], (f"{layer}_{number}" for number in itertools.count(1)))
    return next(name for name in names if f"{name}/b/q" not in weights and f"{name}/b" not in weights)
