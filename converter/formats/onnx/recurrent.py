"""Recurrent nodes of the trace as ONNX LSTM, GRU and RNN, whatever their loop looks like.

`stubbed` empties the bodies, so that tf2onnx does not convert loops that nobody needs; `handler` then writes the
operator. Gates in the order of Keras's kernels: LSTM i, f, c, o; GRU z, r, h. ONNX has i, o, f, c and z, r, h, one gate
below the other, and two biases; `linear_before_reset` is `reset_after`. What is computed from weights alone here is
folded when they are bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from converter.core.data import Array
from converter.core.foreign import FunctionDef, GraphDef, OnnxNode, Tf2OnnxGraph
from converter.tracing.functions import drop_unused
from converter.tracing.recurrent_operator import Recurrent, recurrent_of

_ACTIVATIONS: Mapping[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "elu": ("Elu", 1.0, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
}
"""ONNX's name, alpha and beta; None: it has no such argument"""

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""Where each of ONNX's gates stands in Keras's kernels"""


def stubbed(graph_def: GraphDef) -> tuple[GraphDef, dict[str, Recurrent]]:
    """`graph_def` with empty recurrent functions, and what each of them computes, by the name of its function."""
    functions = {each.signature.name: recurrent_of(each.attr) for each in graph_def.library.function}
    known = {name: found for name, found in functions.items() if found is not None}
    if not known:
        return graph_def, known
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    for function in result.library.function:
        if function.signature.name in known:
            _empty(function)
    drop_unused(result)
    return result, known


def _empty(function: FunctionDef) -> None:
    """Let `function` return something of unknown shape: callers know the shapes."""
    import tensorflow as tf

    del function.node_def[:]
    zero = function.node_def.add(op="Const", name="zero")
    zero.attr["dtype"].type = tf.float32.as_datatype_enum
    zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0.0))
    unknown = function.node_def.add(op="PlaceholderWithDefault", name="unknown", input=["zero:output:0"])
    unknown.attr["dtype"].type = tf.float32.as_datatype_enum
    unknown.attr["shape"].shape.unknown_rank = True
    for output in function.signature.output_arg:
        function.ret[output.name] = "unknown:output:0"


def handler(known: Mapping[str, Recurrent]) -> Callable[..., None]:
    """What tf2onnx calls for each function call of the graph: (its graph, the node, the node's name, arguments)."""

    def convert(graph: Tf2OnnxGraph, node: OnnxNode, name: str, arguments: object) -> None:
        operator = known.get(node.get_attr_str("f"))
        if operator is not None:
            _convert(graph, node, operator)

    return convert


def _convert(graph: Tf2OnnxGraph, node: OnnxNode, operator: Recurrent) -> None:
    """Replace `node` by the ONNX operator."""
    given, outputs, dtypes = list(node.input), list(node.output), node.output_dtypes
    scope = node.name.rpartition("/")[0] or node.name
    used = [bool(graph.find_output_consumers(name)) or name in graph.outputs for name in outputs]
    graph.remove_node(node.name)
    states, weights = given[1 : 1 + operator.given], given[1 + operator.given :]
    inputs = [
        given[0],
        _gates(graph, operator, weights[0], f"{scope}/W"),
        _gates(graph, operator, weights[1], f"{scope}/R"),
        _biases(graph, operator, weights[2], f"{scope}/B") if operator.bias else "",
        "",
        *(_unsqueezed(graph, state) for state in states),
    ]
    found = graph.make_node(
        operator.kind,
        inputs,
        attr=_attributes(operator),
        output_count=1 + operator.states,
        name=_free(graph, f"{scope}/{operator.kind}"),
        dtypes=[dtypes[-1]] * (1 + operator.states),
    ).output
    if operator.sequence:
        _squeezed(graph, found[0], 1, outputs[0])
    for index, name in enumerate(outputs[1 if operator.sequence else 0 :]):
        if used[index - operator.states]:
            _squeezed(graph, found[1 + index], 0, name)


def _attributes(operator: Recurrent) -> dict[str, object]:
    recurrent, activation = operator.recurrent_activation, operator.activation
    names = {"LSTM": (recurrent, activation, activation), "GRU": (recurrent, activation), "RNN": (activation,)}
    chosen = [_ACTIVATIONS[name] for name in names[operator.kind]]
    result: dict[str, object] = {
        "hidden_size": operator.units,
        "direction": "reverse" if operator.reverse else "forward",
        "activations": [name for name, _, _ in chosen],
    }
    alphas = [alpha for _, alpha, _ in chosen if alpha is not None]
    betas = [beta for _, _, beta in chosen if beta is not None]
    if alphas:
        result["activation_alpha"] = alphas
    if betas:
        result["activation_beta"] = betas
    if operator.kind == "GRU":
        result["linear_before_reset"] = int(operator.reset_after)
    return result


def _gates(graph: Tf2OnnxGraph, operator: Recurrent, kernel: str, name: str) -> str:
    """Keras's kernel, shape (features, gates * units), as ONNX's, shape (1, gates * units, features)."""
    index = _order(operator)
    constant = _value(graph, kernel)
    if constant is not None:
        return _const(graph, np.ascontiguousarray(constant[:, index].T)[None], name)
    if operator.kind == "LSTM":
        kernel = graph.make_node("Gather", [kernel, _const(graph, index)], attr={"axis": 1}).output[0]
    return _unsqueezed(graph, graph.make_node("Transpose", [kernel], attr={"perm": [1, 0]}).output[0])


def _biases(graph: Tf2OnnxGraph, operator: Recurrent, bias: str, name: str) -> str:
    """Keras's bias as ONNX's two, shape (1, 2 * gates * units)."""
    index = _order(operator)
    constant = _value(graph, bias)
    double = operator.kind == "GRU" and operator.reset_after
    if constant is not None:
        rows = constant if double else np.stack([constant, np.zeros_like(constant)])
        return _const(graph, rows[:, index].reshape(1, -1), name)
    if double:
        return str(graph.make_node("Reshape", [bias, _const(graph, np.array([1, -1], np.int64))]).output[0])
    ordered = graph.make_node("Gather", [bias, _const(graph, index)], attr={"axis": 0}).output[0]
    zeros = _const(graph, np.zeros(len(index), np.float32))
    return _unsqueezed(graph, graph.make_node("Concat", [ordered, zeros], attr={"axis": 0}).output[0])


def _order(operator: Recurrent) -> Array:
    units = operator.units
    return np.concatenate([np.arange(gate * units, (gate + 1) * units) for gate in _GATES[operator.kind]])


def _squeezed(graph: Tf2OnnxGraph, tensor: str, axis: int, output: str | None = None) -> str:
    outputs = None if output is None else [output]
    return str(
        graph.make_node("Squeeze", [tensor, _const(graph, np.array([axis], np.int64))], outputs=outputs).output[0]
    )


def _unsqueezed(graph: Tf2OnnxGraph, tensor: str) -> str:
    return str(graph.make_node("Unsqueeze", [tensor, _const(graph, np.array([0], np.int64))]).output[0])


def _const(graph: Tf2OnnxGraph, value: Array, name: str = "") -> str:
    return str(graph.make_const(_free(graph, name or "const"), value).output[0])


def _free(graph: Tf2OnnxGraph, name: str) -> str:
    """`name`, or if a node has it, another one that begins with it."""
    from tf2onnx import utils

    return name if graph.get_node_by_name(name) is None else str(utils.make_name(name))


def _value(graph: Tf2OnnxGraph, tensor: str) -> Array | None:
    node = graph.get_node_by_output(tensor)
    while node is not None and node.type == "Identity":
        node = node.inputs[0]
    return np.asarray(node.get_tensor_value(as_list=False)) if node is not None and node.is_const() else None
