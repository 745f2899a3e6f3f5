"""An ONNX file as a `FileGraph`. Needs the package onnx, which an installation that only verifies does not have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import DecodeError, Message

from converter.core.errors import InputError, UnavailableError
from converter.core.foreign import Module, OnnxModel, OnnxNode, OnnxValue
from converter.core.text import first_line
from converter.inspection.graph import FileGraph, Operation, Value, product, times

_DAMAGED = (
    DecodeError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, RecursionError,
)  # fmt: skip
"""What a file raises whose fields are not what they should be"""

_SMALL = 4096  # elements up to which a stored tensor may decide a shape
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}
_PRODUCTS = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0, "Gemm": 0}


def read(path: Path) -> FileGraph:
    """The graph of an ONNX file, its weights not kept. Raises InputError for a damaged file, UnavailableError."""
    try:
        import onnx
    except ImportError as error:
        raise UnavailableError("onnx is not installed\npip install onnx, or cnnexport") from error

    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node and not model.graph.output:
            raise ValueError("it has no graph")
        stored = _without_weights(onnx, model)
        _one_image(model)
        model = onnx.shape_inference.infer_shapes(model)
        _text_only(model)
        return _graph(onnx, model, stored)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (*_DAMAGED, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"{path}: not an ONNX file, or damaged: {first_line(error)}") from error


def _graph(onnx: Module, model: OnnxModel, stored: Mapping[str, Value]) -> FileGraph:
    graph = model.graph
    values = {each.name: _value(onnx, each) for each in (*graph.value_info, *graph.output, *graph.input)}
    values |= stored
    operations = tuple(
        Operation(
            node.name or f"node {number}",
            node.op_type,
            tuple(name for name in node.input if name),
            tuple(name for name in node.output if name),
            _cost(onnx, node, values),
        )
        for number, node in enumerate(graph.node)
    )
    return FileGraph(
        operations,
        values,
        tuple(values[each.name] for each in graph.input if each.name not in stored),
        tuple(values[each.name] for each in graph.output),
        {
            "opset": ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in model.opset_import),
            "ir version": str(model.ir_version),
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
        },
    )


def _text_only(message: Message) -> None:
    """Raise ValueError if a text of the file is not UTF-8: protobuf returns such a text as bytes."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        entries = [value] if isinstance(value, (str, bytes, Message)) else value
        if field.type == field.TYPE_MESSAGE:
            for each in entries:
                _text_only(each)
        elif any(isinstance(each, bytes) for each in entries):
            raise ValueError(f"a {field.name} in a {field.containing_type.name} is not UTF-8")


def _without_weights(onnx: Module, model: OnnxModel) -> dict[str, Value]:
    """The stored tensors by name; large ones become inputs of the graph, so that only their shapes are left."""
    stored = {}
    kept = []
    for tensor in model.graph.initializer:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        value = Value(tensor.name, tuple(tensor.dims), dtype, stored=True)
        stored[tensor.name] = value
        if (value.elements or 0) <= _SMALL and tensor.data_location != tensor.EXTERNAL:
            kept.append(tensor)
        else:
            given = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(given)
    small = [onnx.TensorProto.FromString(each.SerializeToString()) for each in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    return stored


def _one_image(model: OnnxModel) -> None:
    """Make the batch one where it is dynamic, and forget the shapes that were derived from it."""
    for each in (*model.graph.input, *model.graph.output):
        sizes = each.type.tensor_type.shape.dim
        if sizes and not sizes[0].HasField("dim_value"):
            sizes[0].dim_value = 1
    del model.graph.value_info[:]


def _value(onnx: Module, info: OnnxValue) -> Value:
    kind = info.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    if kind.elem_type == 0:
        return Value(info.name, None, "unknown")
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return Value(info.name, shape if kind.HasField("shape") else None, dtype)


def _cost(onnx: Module, node: OnnxNode, values: dict[str, Value]) -> int | None:
    """The multiply-adds of a node for one image: 0 for anything but convolutions and products."""

    def shape(name: str) -> tuple[int | None, ...] | None:
        return values[name].shape if name in values else None

    if node.op_type in _CONVOLUTIONS:
        kernel = shape(node.input[_CONVOLUTIONS[node.op_type]])
        return times(product(shape(node.output[0])), product(kernel[1:] if kernel else None))
    if node.op_type == "ConvTranspose":
        kernel = shape(node.input[1])
        return times(product(shape(node.input[0])), product(kernel[1:] if kernel else None))
    if node.op_type in _PRODUCTS:
        first = shape(node.input[0])
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        inner = None if not first else first[-2] if transposed else first[-1]
        return times(product(shape(node.output[0])), inner)
    if node.op_type in ("LSTM", "GRU", "RNN"):
        steps = shape(node.input[0])
        kernels = [product(shape(name)) for name in node.input[1:3]]
        sizes = None if not steps else times(steps[0], steps[1])
        return None if None in kernels else times(sizes, sum(each or 0 for each in kernels))
    return 0
