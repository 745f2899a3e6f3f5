"""The weights bound to the TFLite model that the converter made without them: inputs become constants.

The converter takes a tenth of a second for a graph without weights, but half a minute and gigabytes for VGG-16 with
them: it transposes kernels element by element. Here numpy does each TRANSPOSE or RESHAPE that only reads a weight once,
and the operator is removed. Works on the object form of the flatbuffer (schema.fbs of TFLite); `file` writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from converter.core.data import Array
from converter.core.foreign import FlatbufferObject, Module

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 6: np.bool_, 10: np.float64}
_NO_TENSOR = -1


def bind(model: FlatbufferObject, weights: Mapping[str, Array]) -> dict[int, Array]:
    """Turn the inputs of `model` (ModelT, changed in place) that are named in `weights` into constants.

    Returns the arrays by the index of their buffer; they may be views of the given arrays. A BATCH_MATMUL with the
    kernel of a dense layer becomes FULLY_CONNECTED with its bias and activation.
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


def add_signature(model: FlatbufferObject, key: str) -> None:
    """Give `model` a single signature `key`: the inputs and outputs of its first subgraph, by tensor name."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]

    def entries(indices: Iterable[int]) -> list[FlatbufferObject]:
        result = []
        for index in indices:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[index].name, int(index)
            result.append(entry)
        return result

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key.encode(), 0
    signature.inputs, signature.outputs = entries(graph.inputs), entries(graph.outputs)
    model.signatureDefs = [signature]


def operator_names(model: FlatbufferObject) -> dict[int, str]:
    """The names of the builtin and custom operators of `model` by the index of their operator code."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    return {
        index: code.customCode.decode() if code.customCode else names.get(_builtin(code), str(_builtin(code)))
        for index, code in enumerate(model.operatorCodes)
    }


def _builtin(code: FlatbufferObject) -> int:
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _constant(model: FlatbufferObject, index: int) -> Array | None:
    """The value of a tensor that the converter stored as a constant, or None for other tensors."""
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in _DTYPES:
        return None
    shape = [] if tensor.shape is None else tensor.shape
    return np.asarray(data, np.uint8).view(_DTYPES[tensor.type]).reshape(shape)


def _computed(model: FlatbufferObject, operator: FlatbufferObject, known: Mapping[int, Array]) -> Array | None:
    """The result of an operator that only moves the elements of a weight, or None for other operators."""
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


def _use_fully_connected(model: FlatbufferObject, known: dict[int, Array], schema: Module) -> None:
    """Turn x @ W into FULLY_CONNECTED, whose kernel is W transposed; it absorbs an ADD of a bias vector after it."""
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
        if add is None or readers[operator.outputs[0]] != 1:
            continue
        if names[add.opcodeIndex] != "ADD":
            continue
        other = next((index for index in add.inputs if index != operator.outputs[0]), _NO_TENSOR)
        bias = known.get(other) if other in known or other == _NO_TENSOR else _constant(model, other)
        if bias is not None and bias.shape == (known[kernel].shape[0],):
            operator.inputs[2] = other
            operator.outputs = list(add.outputs)
            dense.fusedActivationFunction = add.builtinOptions.fusedActivationFunction
            absorbed.append(add)
    graph.operators = [operator for operator in graph.operators if not any(operator is each for each in absorbed)]


def _code(model: FlatbufferObject, schema: Module, builtin: int) -> int:
    """The index of a builtin operator's code, which is added to `model` if it is missing."""
    for index, code in enumerate(model.operatorCodes):
        if _builtin(code) == builtin and not code.customCode:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _drop_unread(graph: FlatbufferObject) -> None:
    """Remove the tensors that no operator reads or writes any more, and renumber the others."""
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
