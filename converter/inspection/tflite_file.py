"""A TFLite file as a `FileGraph`, with the schema that LiteRT brings."""

from __future__ import annotations

import struct
from pathlib import Path

from converter.core.errors import InputError, UnavailableError
from converter.core.foreign import FlatbufferObject, Module
from converter.core.text import first_line
from converter.inspection.graph import FileGraph, Operation, Value, product, times

_MAX_BYTES = 2**31
_DAMAGED = (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError)


def read(path: Path) -> FileGraph:
    """The first graph of a TFLite file. Raises InputError for a damaged file, UnavailableError without LiteRT."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise UnavailableError(f"ai-edge-litert cannot be imported ({error})\npip install ai-edge-litert") from error
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: larger than a TFLite file can be")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if content[4:8] != b"TFL3":
        raise InputError(f"{path}: not a TFLite file (its identifier is not TFL3)")
    try:
        return _graph(schema, schema.Model.GetRootAs(content, 0), len(content))
    except _DAMAGED as error:
        raise InputError(f"{path}: damaged: {first_line(error)}") from error


def _graph(schema: Module, model: FlatbufferObject, limit: int) -> FileGraph:
    graph = model.Subgraphs(0)
    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    values: list[Value] = []
    signed = []
    for index in _indices(graph.TensorsLength(), limit):
        tensor = graph.Tensors(index)
        shape = tuple(int(tensor.Shape(axis)) for axis in _indices(tensor.ShapeLength(), limit))
        buffer = model.Buffers(tensor.Buffer())
        name = (tensor.Name() or b"").decode(errors="replace") or f"tensor {index}"
        stored = buffer.DataLength() > 0 or buffer.Size() > 1
        values.append(Value(f"{name}#{index}", shape, types.get(tensor.Type(), "unknown"), stored))
        signature = tuple(int(tensor.ShapeSignature(axis)) for axis in _indices(tensor.ShapeSignatureLength(), limit))
        signed.append(tuple(None if size < 0 else size for size in signature) or shape)
    operations = []
    for index in _indices(graph.OperatorsLength(), limit):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "unknown")
        inputs = [operator.Inputs(each) for each in _indices(operator.InputsLength(), limit)]
        outputs = [operator.Outputs(each) for each in _indices(operator.OutputsLength(), limit)]
        cost = _cost(
            kind, [values[each] if each >= 0 else None for each in inputs], values[outputs[0]] if outputs else None
        )
        operations.append(
            Operation(
                values[outputs[0]].name.rpartition("#")[0] if outputs else f"operator {index}",
                kind,
                tuple(values[each].name for each in inputs if each >= 0),
                tuple(values[each].name for each in outputs),
                cost,
            )
        )
    version = (model.Description() or b"").decode(errors="replace")
    return FileGraph(
        tuple(operations),
        {each.name: each for each in values},
        tuple(_bare(values, signed, graph.Inputs(each)) for each in _indices(graph.InputsLength(), limit)),
        tuple(_bare(values, signed, graph.Outputs(each)) for each in _indices(graph.OutputsLength(), limit)),
        {"schema": str(model.Version()), "producer": version},
    )


def _indices(count: int, limit: int) -> range:
    """The indices of a list in the file, which cannot have more entries than the file has bytes: `limit`."""
    if count > limit:
        raise ValueError(f"a list of {count:,} entries in a file of {limit:,} bytes")
    return range(count)


def _bare(values: list[Value], signed: list[tuple[int | None, ...]], index: int) -> Value:
    """An input or output, which keeps the number in its name, with its dynamic sizes as one."""
    value = values[index]
    return Value(value.name, tuple(1 if size is None else size for size in signed[index]), value.dtype)


def _cost(kind: str, inputs: list[Value | None], output: Value | None) -> int | None:
    """The multiply-adds of an operator for one image: 0 for anything but convolutions and products."""
    shapes = [None if each is None else each.shape for each in inputs]
    result = None if output is None else output.shape
    if kind in ("CONV_2D", "CONV_3D", "FULLY_CONNECTED") and len(shapes) > 1 and shapes[1]:
        inner = shapes[1][:-1] if kind == "CONV_3D" else shapes[1][1:]
        return times(product(result), product(inner))
    if kind == "DEPTHWISE_CONV_2D" and len(shapes) > 1 and shapes[1]:
        return times(product(result), product(shapes[1][1:3]))
    if kind == "TRANSPOSE_CONV" and len(shapes) > 2 and shapes[1]:
        return times(product(shapes[2]), product(shapes[1][:3]))
    if kind == "BATCH_MATMUL" and shapes and shapes[0]:
        return times(product(result), shapes[0][-1])
    return 0
