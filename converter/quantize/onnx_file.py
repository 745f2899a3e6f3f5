"""A finished ONNX file opened for editing: the graph without its float32 weights, and the weights as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.errors import ConversionError
from converter.core.foreign import OnnxGraph, OnnxModel, OnnxNode
from converter.core.text import first_line
from converter.formats.onnx import file

_SMALL = 64  # elements


def load(path: Path) -> tuple[OnnxModel, dict[str, Array]]:
    """The model in `path` without its float32 initializers, and these by name.

    Raises ConversionError for a graph with graphs inside it: their tensors are seen from no place outside.
    """
    import onnx

    model = onnx.load(str(path))
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise ConversionError(
                f"{node.name}: {node.op_type} holds a graph of its own, which stays in float32\nexport float32 alone"
            )
    weights = {}
    for index in reversed(range(len(model.graph.initializer))):
        tensor = model.graph.initializer[index]
        if tensor.data_type == onnx.TensorProto.FLOAT:
            weights[tensor.name] = np.asarray(onnx.numpy_helper.to_array(tensor))
            del model.graph.initializer[index]
    return model, dict(reversed(weights.items()))


def inferred(model: OnnxModel, weights: Mapping[str, Array]) -> tuple[dict[str, int], dict[str, int]]:
    """The element type and the rank of every tensor whose type ONNX can infer, by name."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(_with_inputs(model, weights)).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {each.name: int(each.type.tensor_type.elem_type) for each in values}
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in values if _has_shape(each.type)}
    for tensor in graph.initializer:
        types[tensor.name], ranks[tensor.name] = int(tensor.data_type), len(tensor.dims)
    return types, ranks


def save(model: OnnxModel, weights: Mapping[str, Array], path: Path) -> tuple[list[Path], dict[str, int]]:
    """Check `model` and write it with `weights` to `path`. Returns the files and the operator histogram.

    Weights that no node reads are left out. Raises ConversionError where onnx.checker refuses the graph.
    """
    import onnx

    read = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    used = {name: array for name, array in weights.items() if name in read}
    try:
        onnx.checker.check_model(_with_inputs(model, used), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"{path.name}: onnx.checker refuses the graph: {first_line(error)}") from error
    operators = Counter(node.op_type for node in model.graph.node)
    return file.save(model, used, path), dict(sorted(operators.items()))


def replace_nodes(graph: OnnxGraph, nodes: Sequence[OnnxNode]) -> None:
    """Make `nodes` the nodes of `graph`."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _has_shape(kind: OnnxGraph) -> bool:
    return bool(kind.tensor_type.HasField("shape"))


def _with_inputs(model: OnnxModel, weights: Mapping[str, Array]) -> OnnxModel:
    """A copy with the weights' types and shapes as inputs; the smallest keep their values, which shapes follow from."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, array in weights.items():
        if array.size <= _SMALL:
            copy.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            continue
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    return copy
