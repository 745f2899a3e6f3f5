"""Every output a tensor of its own: the converter merges outputs of one value, and an output that is an input."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from converter.core.foreign import FlatbufferObject


def separate(model: FlatbufferObject, names: Sequence[str]) -> None:
    """Give each output of `model` (ModelT, changed in place) its name in `names`, which are in the outputs' order.

    An output whose tensor is an input, or has the name of another output, becomes a CAST to its own type, which copies.
    """
    graph = model.subgraphs[0]
    taken = {int(index) for index in graph.inputs}
    outputs = []
    for index, name in zip(graph.outputs, names, strict=True):
        tensor = graph.tensors[index]
        if index in taken or (tensor.name.decode() != name and tensor.name.decode() in names):
            index = _copied(model, int(index), name)
        else:
            tensor.name = name.encode()
        taken.add(int(index))
        outputs.append(int(index))
    graph.outputs = outputs


def _copied(model: FlatbufferObject, index: int, name: str) -> int:
    """The index of a new tensor `name` that a new operator copies the tensor at `index` to."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]
    tensor = copy.copy(graph.tensors[index])
    tensor.name, tensor.buffer = name.encode(), 0
    graph.tensors.append(tensor)
    operator = schema.OperatorT()
    operator.opcodeIndex = _cast(model)
    operator.inputs, operator.outputs = [index], [len(graph.tensors) - 1]
    operator.builtinOptionsType = schema.BuiltinOptions.CastOptions
    operator.builtinOptions = schema.CastOptionsT()
    operator.builtinOptions.inDataType = operator.builtinOptions.outDataType = tensor.type
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _cast(model: FlatbufferObject) -> int:
    """The index of the operator code of CAST, which is added where `model` has none."""
    from tensorflow.lite.python import schema_py_generated as schema

    code = schema.BuiltinOperator.CAST
    for index, known in enumerate(model.operatorCodes):
        if max(known.builtinCode, known.deprecatedBuiltinCode) == code:
            return index
    added = schema.OperatorCodeT()
    added.builtinCode = added.deprecatedBuiltinCode = code
    added.version = 1
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1
