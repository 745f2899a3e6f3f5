"""The TFLite skeleton gets its weights back: they were inputs for the converter and become constants here.

The converter takes a tenth of a second for a graph without weights, and half a minute and gigabytes for VGG-16 with
them: it transposes kernels element by element. Here each TRANSPOSE or RESHAPE that only reads a weight is done once by
numpy and removed. Works on the object form of the flatbuffer (schema.fbs of TFLite); `tflite_file` writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.core.data import Array

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 6: np.bool_, 10: np.float64}
_NO_TENSOR = -1


def bind(model: Any, weights: Mapping[str, Array]) -> dict[int, Array]:
    """Turn the inputs of `model` (ModelT, changed in place) that are named in `weights` into constants.

    Returns the arrays by index of the buffer that must hold them; they may be views of the arrays given. Dense kernels
    that arrive as BATCH_MATMUL become FULLY_CONNECTED with its bias and activation.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]
    known = {index: weights[name] for index in graph.inputs if (name := graph.tensors[index].name.decode()) in weights}
    graph.inputs = [index for index in graph.inputs if index not in known]
    kept = []
    for operator in graph.operators:
        result = _computed(model, operator, known)
        if result is None:
            kept.append(operator)
        else:
            known[operator.outputs[0]] = result
    graph.operators = kept
    _use_fully_connected(model, known, schema)
    read = {index for operator in graph.operators for index in operator.inputs} | set(graph.outputs)
    buffers = {}
    for index, array in known.items():
        if index in read:
            tensor = graph.tensors[index]
            tensor.shape, tensor.shapeSignature = list(array.shape), None
            model.buffers.append(schema.BufferT())
            tensor.buffer = len(model.buffers) - 1
            buffers[tensor.buffer] = array
    _drop_unread(graph)
    return buffers


def add_signature(model: Any, key: str) -> None:
    """Give `model` one signature `key` over the inputs and outputs of its first subgraph, by tensor name."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]

    def maps(indices: Any) -> list[Any]:
        entries = []
        for index in indices:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[index].name, int(index)
            entries.append(entry)
        return entries

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key.encode(), 0
    signature.inputs, signature.outputs = maps(graph.inputs), maps(graph.outputs)
    model.signatureDefs = [signature]


def operator_names(model: Any) -> dict[int, str]:
    """Operator code index -> name, for the builtin and the custom operators of `model`."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    return {
        index: code.customCode.decode() if code.customCode else names.get(_builtin(code), str(_builtin(code)))
        for index, code in enumerate(model.operatorCodes)
    }


def _builtin(code: Any) -> int:
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _constant(model: Any, index: int) -> Array | None:
    """The value of a tensor that the converter stored, or None."""
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in _DTYPES:
        return None
    shape = [] if tensor.shape is None else tensor.shape
    return np.asarray(data, np.uint8).view(_DTYPES[tensor.type]).reshape(shape)


def _computed(model: Any, operator: Any, known: Mapping[int, Array]) -> Array | None:
    """The result of an operator that only moves a weight's elements, or None."""
    first = known.get(operator.inputs[0]) if len(operator.inputs) else None
    if first is None or len(operator.outputs) != 1:
        return None
    name = operator_names(model)[operator.opcodeIndex]
    if name == "TRANSPOSE":
        order = _constant(model, operator.inputs[1])
        return None if order is None else first.transpose(order.tolist())
    if name in ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"):
        shape = model.subgraphs[0].tensors[operator.outputs[0]].shape
        return first.reshape(shape) if int(np.prod(shape)) == first.size else None
    return None


def _use_fully_connected(model: Any, known: dict[int, Array], schema: Any) -> None:
    """x @ W as FULLY_CONNECTED, whose kernel is W transposed; an ADD of a bias vector behind it is taken in."""
    graph = model.subgraphs[0]
    names = operator_names(model)
    readers = Counter(index for operator in graph.operators for index in operator.inputs)
    readers.update(graph.outputs)
    consumers = {index: operator for operator in graph.operators for index in operator.inputs}
    absorbed = []
    for operator in graph.operators:
        if names[operator.opcodeIndex] != "BATCH_MATMUL" or operator.inputs[1] not in known:
            continue
        kernel, options = operator.inputs[1], operator.builtinOptions
        if known[kernel].ndim != 2 or options.adjX or readers[kernel] != 1:
            continue
        if not options.adjY:
            known[kernel] = known[kernel].T
        dense = schema.FullyConnectedOptionsT()
        dense.keepNumDims = len(graph.tensors[operator.inputs[0]].shape) > 2
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, dense
        operator.opcodeIndex = _code(model, schema, schema.BuiltinOperator.FULLY_CONNECTED)
        operator.inputs = [operator.inputs[0], kernel, _NO_TENSOR]
        add = consumers.get(operator.outputs[0])
        if add is None or names[add.opcodeIndex] != "ADD" or readers[operator.outputs[0]] != 1:
            continue
        other = next((index for index in add.inputs if index != operator.outputs[0]), _NO_TENSOR)
        bias = None if other == _NO_TENSOR else _constant(model, other)
        if bias is not None and bias.shape == (known[kernel].shape[0],):
            operator.inputs[2] = other
            operator.outputs = list(add.outputs)
            dense.fusedActivationFunction = add.builtinOptions.fusedActivationFunction
            absorbed.append(add)
    graph.operators = [operator for operator in graph.operators if not any(operator is each for each in absorbed)]


def _code(model: Any, schema: Any, builtin: int) -> int:
    """The index of a builtin operator's code, added where `model` has none."""
    for index, code in enumerate(model.operatorCodes):
        if _builtin(code) == builtin and not code.customCode:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _drop_unread(graph: Any) -> None:
    """Remove the tensors that nothing reads or writes any more, and number the others anew."""
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used |= {*operator.inputs, *operator.outputs, *(operator.intermediates or [])}
    order = [index for index in range(len(graph.tensors)) if index in used]
    renumbered = {old: new for new, old in enumerate(order)} | {_NO_TENSOR: _NO_TENSOR}
    graph.tensors = [graph.tensors[index] for index in order]
    graph.inputs = [renumbered[index] for index in graph.inputs]
    graph.outputs = [renumbered[index] for index in graph.outputs]
    for operator in graph.operators:
        operator.inputs = [renumbered[index] for index in operator.inputs]
        operator.outputs = [renumbered[index] for index in operator.outputs]
        if operator.intermediates is not None:
            operator.intermediates = [renumbered[index] for index in operator.intermediates]
