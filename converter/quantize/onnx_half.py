"""model.fp16.onnx: weights and arithmetic in float16, inputs and outputs in float32 or float16.

Every float32 tensor becomes float16 but for what an operator's schema allows in float32 only, and the softmax or
sigmoid that ends the model: a probability below 6e-8 would be zero. Where the two kinds meet there is a Cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.errors import ConversionError
from converter.core.foreign import OnnxModel, OnnxNode
from converter.quantize.onnx_file import inferred, load, replace_nodes, save

LARGEST = 65504.0  # float16
SMALLEST = 2.0**-24  # float16 above zero
FLOAT, HALF = 1, 10  # onnx.TensorProto
LAST = ("Softmax", "Sigmoid", "LogSoftmax")
"""The operators that stay in float32 where they end the model"""

_HALF_TYPE = "tensor(float16)"


def write(source: Path, target: Path, ports: bool = False) -> tuple[list[Path], dict[str, int]]:
    """Write the float32 file `source` in float16 to `target`; returns the files and the operator histogram.

    With `ports` its inputs and outputs are float16 as well. Raises ConversionError where a weight is beyond float16,
    and for graphs with graphs inside them.
    """
    model, weights = load(source)
    types, _ = inferred(model, weights)
    converted = _Halved(model, weights, types, ports)
    converted.run()
    return save(model, converted.written, target)


class _Halved:
    """The conversion of one model: which name holds a tensor in float16, which in float32, and the nodes so far."""

    def __init__(self, model: OnnxModel, weights: Mapping[str, Array], types: Mapping[str, int], ports: bool) -> None:
        self.model, self.weights, self.types, self.ports = model, weights, types, ports
        self.opsets = {each.domain: each.version for each in model.opset_import}
        self.outputs = {each.name for each in model.graph.output}
        self.known: dict[int, dict[str, str]] = {HALF: {}, FLOAT: {}}
        self.nodes: list[OnnxNode] = []
        self.written: dict[str, Array] = {}

    def run(self) -> None:
        """Convert the graph of the model, in place."""
        graph = self.model.graph
        for each in graph.input:
            if self.types.get(each.name) == FLOAT:
                kind = HALF if self.ports else FLOAT
                self.known[kind][each.name] = each.name
                each.type.tensor_type.elem_type = kind
        for node in graph.node:
            self._convert(node)
        for each in graph.output:
            if self.types.get(each.name) == FLOAT:
                kind = HALF if self.ports else FLOAT
                if self.known[kind].get(each.name) != each.name:
                    self.nodes.append(_cast(self._as(each.name, HALF + FLOAT - kind), each.name, kind))
                each.type.tensor_type.elem_type = kind
        replace_nodes(graph, self.nodes)

    def _convert(self, node: OnnxNode) -> None:
        kind, allowed = self._kind(node)
        for place, name in enumerate(node.input):
            if self.types.get(name) == FLOAT:
                node.input[place] = self._as(name, HALF if kind == HALF and allowed[place] else FLOAT)
        if kind == HALF:
            _halve_attributes(node)
        for place, name in enumerate(node.output):
            if self.types.get(name) == FLOAT:
                own = HALF if self.ports else FLOAT
                free = (name in self.outputs and kind == own) or (name not in self.outputs and kind == HALF)
                node.output[place] = name if free else f"{name}/{'float16' if kind == HALF else 'float32'}"
                self.known[kind][name] = node.output[place]
        self.nodes.append(node)

    def _kind(self, node: OnnxNode) -> tuple[int, list[bool]]:
        """In which type `node` computes, and which of its inputs may be float16."""
        import onnx

        schema = onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        inputs, outputs = (
            [_HALF_TYPE in formal[min(place, len(formal) - 1)].types for place in range(len(names))]
            for formal, names in ((schema.inputs, node.input), (schema.outputs, node.output))
        )
        floats = [place for place, name in enumerate(node.output) if self.types.get(name) == FLOAT]
        last = node.op_type in LAST and bool(self.outputs & set(node.output))
        return (FLOAT if last or not all(outputs[place] for place in floats) else HALF), inputs

    def _as(self, name: str, kind: int) -> str:
        """The name of the tensor `name` in the type `kind`; a Cast or a copy of the weight is added if it is new."""
        known = self.known[kind]
        if name not in known:
            suffix = "float16" if kind == HALF else "float32"
            if name in self.weights:
                known[name] = name if name not in self.written else f"{name}/{suffix}"
                array = self.weights[name]
                self.written[known[name]] = half(name, array) if kind == HALF else array
            else:
                known[name] = f"{name}/{suffix}"
                self.nodes.append(_cast(self.known[HALF + FLOAT - kind][name], known[name], kind))
        return known[name]


def half(name: str, array: Array) -> Array:
    """`array` as float16. A single number that is not zero does not become zero: optimizers treat that differently.

    Raises ConversionError, naming the array, where a value is too large.
    """
    largest = float(np.abs(array).max(initial=0.0))
    if not largest <= LARGEST:
        raise ConversionError(
            f"{name}: the value {largest:.3g} is beyond float16, which ends at {LARGEST:.0f}\nexport float32 or int8"
        )
    rounded = array.astype(np.float16)
    if array.size == 1 and array.any() and not rounded.any():
        return np.asarray(np.copysign(SMALLEST, array), np.float16)
    return rounded


def _cast(source: str, target: str, kind: int) -> OnnxNode:
    import onnx

    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind)


def _halve_attributes(node: OnnxNode) -> None:
    """Make float16 of what the attributes of `node` create in float32."""
    import onnx

    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == FLOAT:
            array = half(node.name, np.asarray(onnx.numpy_helper.to_array(attribute.t)))
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(array, attribute.t.name))
        elif attribute.name in ("to", "dtype") and attribute.i == FLOAT:  # of Cast, and of what draws numbers
            attribute.i = HALF
