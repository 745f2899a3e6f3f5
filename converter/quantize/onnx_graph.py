"""An ONNX graph as the operators of a plan: what belongs together, what has an int8 form, what shares its scale."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Array
from converter.core.foreign import OnnxModel, OnnxNode
from converter.quantize.plan import ENDS, Kernel, Operator
from converter.quantize.ranges import SIGMOID, TANH
from converter.tracing.naming import layer_of

FLOAT = 1  # onnx.TensorProto.FLOAT
SHARE = {
    "MaxPool", "AveragePool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split",
    "Pad", "Resize", "DepthToSpace", "SpaceToDepth", "Identity", "GlobalMaxPool", "ReduceMax",
}  # fmt: skip
FREE = {"Add", "Mul", "Sub", "GlobalAveragePool", "ReduceMean", "LeakyRelu", "Relu", "Clip", "HardSwish"}
FIXED = {"Sigmoid": SIGMOID, "Tanh": TANH}
OPERANDS = ("Add", "Mul", "Sub")
_FUSING = {"Conv", "Gemm", "MatMul", "Add", "Mul", "Sub"}
_FLAT = 2


@dataclass(frozen=True)
class OnnxFacts:
    """What is known of a model: its float32 weights, the types and ranks of its tensors, and Keras's layers."""

    weights: Mapping[str, Array]
    types: Mapping[str, int]
    ranks: Mapping[str, int]
    layers: Mapping[str, str]


def operators(model: OnnxModel, facts: OnnxFacts) -> list[Operator]:
    """The operators that compute float32 tensors, in the order of the graph."""
    nodes = list(model.graph.node)
    readers: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(nodes):
        for name in set(node.input):
            readers[name].append(index)
    outputs = {each.name for each in model.graph.output}
    taken: set[int] = set()
    found = []
    for index, node in enumerate(nodes):
        if index in taken or not any(facts.types.get(name) == FLOAT for name in node.output):
            continue
        group = _group(index, nodes, facts, {name: each for name, each in readers.items() if name not in outputs})
        taken.update(group)
        step = _operator([nodes[each] for each in group], group, facts)
        last = step.fixed is not None and bool(outputs & set(step.outputs))
        found.append(replace(step, kind="float", fixed=None, reason=ENDS) if last else step)
    return found


def readers_of(nodes: Sequence[OnnxNode]) -> Counter[str]:
    """How many nodes read each tensor."""
    return Counter(name for node in nodes for name in set(node.input))


def _group(
    index: int, nodes: Sequence[OnnxNode], facts: OnnxFacts, readers: Mapping[str, Sequence[int]]
) -> tuple[int, ...]:
    """The positions of a node and of what computes with it: the addition of its bias, and its ReLU."""
    group = [index]
    if nodes[index].op_type == "MatMul" and nodes[index].input[1] in facts.weights:
        following = _only_reader(nodes[index], readers)
        if following is not None and _bias(nodes[following], nodes[index].output[0], facts):
            group.append(following)
    if nodes[group[-1]].op_type in _FUSING:
        following = _only_reader(nodes[group[-1]], readers)
        if following is not None and _is_relu(nodes[following], facts):
            group.append(following)
    return tuple(group)


def _only_reader(node: OnnxNode, readers: Mapping[str, Sequence[int]]) -> int | None:
    found = readers.get(node.output[0], ())
    return found[0] if len(found) == 1 else None


def _bias(node: OnnxNode, read: str, facts: OnnxFacts) -> str:
    """The vector that the Add `node` adds to `read`, or ""."""
    if node.op_type != "Add":
        return ""
    other = next((name for name in node.input if name != read), "")
    return other if other in facts.weights and facts.weights[other].ndim == 1 else ""


def _is_relu(node: OnnxNode, facts: OnnxFacts) -> bool:
    if node.op_type == "Relu":
        return True
    lowest = facts.weights.get(node.input[1]) if node.op_type == "Clip" and len(node.input) > 1 else None
    return lowest is not None and lowest.size == 1 and float(lowest.reshape(-1)[0]) == 0.0


def _operator(nodes: Sequence[OnnxNode], group: tuple[int, ...], facts: OnnxFacts) -> Operator:
    first, last = nodes[0], nodes[-1]
    inputs = [name for name in first.input if facts.types.get(name) == FLOAT and name not in facts.weights]
    constants = {name: facts.weights[name] for name in first.input if name in facts.weights}
    kernel = _kernel(nodes, facts)
    layer = layer_of(kernel.name if kernel else (first.name or first.output[0]), facts.layers)
    kind, reason = "float", f"{first.op_type} has no int8 form"
    if kernel is not None:
        kind = "weights"
    elif first.op_type in SHARE:
        kind = "share"
        if first.op_type == "Pad" and not _pads_zero(first, facts):
            kind, reason = "float", "it pads with another value than zero"
        if first.op_type in ("Concat", "Resize", "Pad"):
            constant = first.op_type == "Concat" and constants
            kind, reason = ("float", "one of its inputs is a constant") if constant else (kind, reason)
        inputs = inputs if first.op_type == "Concat" else inputs[:1]
    elif first.op_type in FREE | FIXED.keys():
        kind = "free"
    return Operator(
        kind=kind,  # type: ignore[arg-type]
        name=last.name or last.output[0],
        layer=layer,
        nodes=group,
        inputs=tuple(dict.fromkeys(inputs)),
        outputs=tuple(name for name in last.output if name),
        kernel=kernel,
        fixed=FIXED.get(first.op_type) if len(nodes) == 1 else None,
        constants=constants if first.op_type in OPERANDS else None,
        reason=reason,
    )


def _kernel(nodes: Sequence[OnnxNode], facts: OnnxFacts) -> Kernel | None:
    """The kernel of a convolution in one or two dimensions, or of a dense layer; None for other nodes."""
    first = nodes[0]
    array = facts.weights.get(first.input[1]) if len(first.input) > 1 else None
    if array is None:
        return None
    if first.op_type == "Conv" and array.ndim in (3, 4):
        bias = first.input[2] if len(first.input) > 2 else ""
        return Kernel(first.input[1], array, 0, bias, facts.weights.get(bias)) if bias in {"", *facts.weights} else None
    if first.op_type == "Gemm" and array.ndim == _FLAT:
        bias = first.input[2] if len(first.input) > 2 else ""
        values = facts.weights.get(bias)
        plain = (_number(first, "alpha", 1.0), _number(first, "beta", 1.0), _number(first, "transA", 0.0))
        if plain != (1.0, 1.0, 0.0) or (bias and (values is None or values.ndim != 1)):
            return None
        return Kernel(first.input[1], array, 0 if _number(first, "transB", 0.0) else 1, bias, values)
    if first.op_type == "MatMul" and array.ndim == _FLAT:
        bias = next((found for node in nodes[1:] if (found := _bias(node, first.output[0], facts))), "")
        flat = facts.ranks.get(first.input[0]) == _FLAT
        return Kernel(first.input[1], array, 1, bias if flat else "", facts.weights.get(bias) if flat else None)
    return None


def _number(node: OnnxNode, name: str, default: float) -> float:
    """The attribute `name` of a node, a number."""
    found = [attribute for attribute in node.attribute if attribute.name == name]
    return float(found[0].f or found[0].i) if found else default


def _pads_zero(node: OnnxNode, facts: OnnxFacts) -> bool:
    modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
    value = facts.weights.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return modes in ([], [b"constant"]) and (value is None or not np.any(value))
