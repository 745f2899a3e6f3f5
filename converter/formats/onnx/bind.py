"""The weights bound to the graph that tf2onnx made without them.

Works on a GraphProto whose weights are still inputs. What depends on weights and constants only (the transposes that
turn HWIO kernels into OIHW, reshapes, casts) is computed here once; the rest become initializers, under the names of
Keras's variables. Files are written by `file`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from converter.core.data import Array
from converter.core.foreign import OnnxAttribute, OnnxGraph, OnnxNode, OnnxTensor
from converter.formats.onnx.order import names_in, read_by, rename

_NHWC_FROM_NCHW = [0, 2, 3, 1]


def bind(graph: OnnxGraph, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Turn the inputs of `graph` that are named in `weights` into arrays, and fold the nodes that read only them.

    `graph` is changed in place. Returns the arrays that it still reads, by tensor name; they may be views of the given
    arrays.
    """
    known = dict(weights)
    for index in reversed(range(len(graph.input))):
        if graph.input[index].name in known:
            del graph.input[index]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        result = None
        if any(name in known for name in node.input) and not outputs & set(node.output):
            result = _computed(node, known, constants)
        if result is None:
            kept.append(node)
        else:
            known[node.output[0]] = result
    del graph.node[:]
    graph.node.extend(kept)
    _flatten_channels_first(graph, known, constants)
    used = {name for node in graph.node for name in read_by(node)} | outputs
    bound = {name: array for name, array in known.items() if name in used}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
    bound = _with_variable_names(graph, bound, weights)
    _name_after_kernels(graph, bound)
    return bound


def attributes_of(node: OnnxNode) -> dict[str, OnnxAttribute]:
    """The values of a node's attributes by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _computed(node: OnnxNode, known: Mapping[str, Array], constants: Mapping[str, OnnxTensor]) -> Array | None:
    """The value of a node that reads only weights and constants, or None for other nodes."""
    import onnx

    if len(node.output) != 1 or any(name and name not in known and name not in constants for name in node.input):
        return None
    attributes = attributes_of(node)
    first = known.get(node.input[0])
    if node.op_type == "Transpose" and first is not None:
        return first.transpose(attributes.get("perm"))
    if node.op_type == "Identity" and first is not None:
        return first
    if node.op_type == "Reshape" and first is not None and node.input[1] in constants:
        shape = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
        sizes = [first.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
        return first.reshape(sizes)
    return _evaluated(node, known, constants)


def _evaluated(node: OnnxNode, known: Mapping[str, Array], constants: Mapping[str, OnnxTensor]) -> Array | None:
    """The value of any other operator, by ONNX's reference implementation; None where that does not support it."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    feeds = {
        name: known[name] if name in known else onnx.numpy_helper.to_array(constants[name])
        for name in node.input
        if name
    }
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    output = onnx.ValueInfoProto(name=node.output[0])
    single = onnx.helper.make_graph([node], "constant", inputs, [output])
    try:
        return np.asarray(ReferenceEvaluator(onnx.helper.make_model(single)).run(None, feeds)[0])
    except (NotImplementedError, RuntimeError, TypeError, ValueError, KeyError):
        return None


def _flatten_channels_first(graph: OnnxGraph, known: dict[str, Array], constants: Mapping[str, OnnxTensor]) -> None:
    """Remove the Transpose from: Transpose to channels-last -> Reshape to a matrix -> MatMul(W), by permuting W's rows.

    For x of shape (N, C, H, W): flatten(transpose(x)) @ W equals flatten(x) @ W', where row (c, h, w) of W' is row
    (h, w, c) of W. W' is a copy of W.
    """
    import onnx

    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in [*node.input, *read_by(node) - {*node.input}])
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    for matmul in [node for node in graph.node if node.op_type == "MatMul"]:
        reshape = producers.get(matmul.input[0])
        matrix = known.get(matmul.input[1])
        if matrix is None or readers[matmul.input[1]] != 1 or reshape is None or reshape.op_type != "Reshape":
            continue
        transpose = producers.get(reshape.input[0])
        if transpose is None or transpose.op_type != "Transpose" or reshape.input[1] not in constants:
            continue
        perm = next((list(a.ints) for a in transpose.attribute if a.name == "perm"), [])
        target = onnx.numpy_helper.to_array(constants[reshape.input[1]]).tolist()
        shape = shapes.get(transpose.input[0], [])
        flat = len(target) == 2 and target[1] in (-1, matrix.shape[0])
        single = readers[reshape.input[0]] == 1 and readers[matmul.input[0]] == 1
        if perm != _NHWC_FROM_NCHW or not flat or not single or len(shape) != 4 or 0 in shape[1:]:
            continue
        _, channels, height, width = shape
        if channels * height * width != matrix.shape[0]:
            continue
        rows = matrix.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
        known[matmul.input[1]] = np.ascontiguousarray(rows).reshape(matrix.shape)
        reshape.input[0] = transpose.input[0]
        graph.node.remove(transpose)


def _with_variable_names(
    graph: OnnxGraph, bound: Mapping[str, Array], weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Give each array that is a view of one variable that variable's name."""
    owners = {_base(array): name for name, array in weights.items()}
    renamed: dict[str, str] = {}
    taken = names_in(graph)
    for name, array in bound.items():
        wanted = owners.get(_base(array))
        if wanted is not None and wanted != name and wanted not in taken:
            renamed[name] = wanted
            taken.add(wanted)
    rename(graph, renamed)
    return {renamed.get(name, name): array for name, array in bound.items()}


def _name_after_kernels(graph: OnnxGraph, bound: Mapping[str, Array]) -> None:
    """Name the node that reads `layer/kernel`, and its result, after the layer and the operator: `layer/Conv`."""
    outputs = {value.name for value in graph.output}
    taken = {node.name for node in graph.node} | names_in(graph)
    renamed: dict[str, str] = {}
    for node in graph.node:
        kernel = node.input[1] if len(node.input) > 1 and node.input[1] in bound else ""
        wanted = f"{kernel.rpartition('/')[0]}/{node.op_type}"
        if "/" not in kernel or wanted in taken:
            continue
        taken.add(wanted)
        node.name = wanted
        if node.output[0] not in outputs:
            renamed[node.output[0]] = wanted
    rename(graph, renamed)


def _base(array: Array) -> int:
    """The address of the memory that a view starts at: the same for an array and its transposed or reshaped views."""
    return int(array.__array_interface__["data"][0])
