"""A SavedModel as a `FileGraph`; needs TensorFlow. Refused where it has operations that access files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from converter.core.errors import InputError, UnavailableError, UnsafeError
from converter.core.foreign import Tensor, TfFunction, TfOperation
from converter.core.text import first_line
from converter.inspection.graph import FileGraph, Operation, Value, product, times
from converter.runtimes.run_tf import SIGNATURE, refuse_files, unavailable

_CALL = "StatefulPartitionedCall/"  # what TensorFlow puts before the names of an inlined function
_PASSING = ("Placeholder", "Const", "Identity", "NoOp", "EnsureShape")


def read(path: Path) -> FileGraph:
    """The graph of the signature `serving_default`. Raises InputError, UnsafeError, UnavailableError."""
    reason = unavailable("cpu")
    if reason:
        raise UnavailableError(f"{path}: a SavedModel is read by TensorFlow: {reason}")
    from converter.tracing.context import quiet_tensorflow

    quiet_tensorflow()
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        refuse_files(path)
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[SIGNATURE]
        return _graph(
            convert_variables_to_constants_v2(function, lower_control_flow=False),
            function,
            str(loaded.tensorflow_version),
        )
    except UnsafeError:
        raise
    except Exception as error:  # TensorFlow has no error of its own for a damaged file
        raise InputError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error


def _graph(frozen: TfFunction, function: TfFunction, version: str) -> FileGraph:
    """The signature `function`, with its variables as constants in `frozen`, saved by this version of TensorFlow."""
    values: dict[str, Value] = {}
    operations = []
    for operation in frozen.graph.get_operations():
        found = (_value(tensor, stored=operation.type == "Const") for tensor in operation.outputs)
        values |= {each.name: each for each in found}
        if operation.type not in _PASSING:
            operations.append(_operation(operation))
    names = sorted(function.structured_outputs)  # TensorFlow returns them in this order
    outputs = [
        replace(_value(tensor, stored=False), name=name) for tensor, name in zip(frozen.outputs, names, strict=True)
    ]
    return FileGraph(
        tuple(operations),
        values,
        tuple(replace(_value(each, stored=False), name=each.name.partition(":")[0]) for each in frozen.inputs),
        tuple(outputs),
        {"signature": SIGNATURE, "tensorflow": version},
    )


def _value(tensor: Tensor, stored: bool) -> Value:
    shape = None
    if tensor.shape.rank is not None:
        sizes = tensor.shape.as_list()
        shape = tuple(1 if axis == 0 and size is None else size for axis, size in enumerate(sizes))
    return Value(tensor.name.removeprefix(_CALL), shape, tensor.dtype.base_dtype.name, stored)


def _operation(operation: TfOperation) -> Operation:
    shapes = [_value(each, stored=False).shape for each in operation.inputs]
    result = _value(operation.outputs[0], stored=False).shape if operation.outputs else None
    cost: int | None = 0
    if operation.type in ("Conv2D", "Conv3D"):
        cost = times(product(result), product(shapes[1][:-1] if shapes[1] else None))
    elif operation.type == "DepthwiseConv2dNative":
        cost = times(product(result), product(shapes[1][:2] if shapes[1] else None))
    elif operation.type == "Conv2DBackpropInput":
        cost = times(product(shapes[2]), product(shapes[1][:3] if shapes[1] else None))
    elif operation.type in ("MatMul", "BatchMatMulV2"):
        cost = times(product(result), shapes[0][-1] if shapes[0] else None)
    return Operation(
        operation.name.removeprefix(_CALL),
        operation.type,
        tuple(each.name.removeprefix(_CALL) for each in operation.inputs),
        tuple(each.name.removeprefix(_CALL) for each in operation.outputs),
        cost,
    )
