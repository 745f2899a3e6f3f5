"""Raw TensorFlow operations in a functional model of Keras 2, converted to operations of Keras 3.

Keras 2 recorded `x / 127.5` or `tf.concat(...)` between layers as a TFOpLambda with the operation's dotted name.
`OPERATIONS` has the operation of Keras 3 for each name that is supported; any other name is an error, never a guess.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from converter.core.errors import InputError
from converter.core.foreign import Json, JsonObject
from converter.sources.repair.notes import REBUILD


class Operation(NamedTuple):
    """A class of `keras.src.ops.<module>`; `inputs` are the names that TensorFlow gives the tensors of the call.

    `settings` are the arguments of the class: TensorFlow's name, Keras's name, and TensorFlow's default.
    """

    module: str
    name: str
    inputs: tuple[str, ...] = ("x",)
    settings: tuple[tuple[str, str, Json], ...] = ()


_PAIR = ("x", "y")
_REDUCE = (("axis", "axis", None), ("keepdims", "keepdims", False))
OPERATIONS: dict[str, Operation] = {
    "__operators__.add": Operation("numpy", "Add", _PAIR),
    "math.add": Operation("numpy", "Add", _PAIR),
    "math.subtract": Operation("numpy", "Subtract", _PAIR),
    "math.multiply": Operation("numpy", "Multiply", _PAIR),
    "math.truediv": Operation("numpy", "TrueDivide", _PAIR),
    "math.divide": Operation("numpy", "TrueDivide", _PAIR),
    "math.pow": Operation("numpy", "Power", _PAIR),
    "math.maximum": Operation("numpy", "Maximum", _PAIR),
    "math.minimum": Operation("numpy", "Minimum", _PAIR),
    "math.negative": Operation("numpy", "Negative"),
    "math.abs": Operation("numpy", "Absolute"),
    "math.square": Operation("numpy", "Square"),
    "math.sqrt": Operation("numpy", "Sqrt"),
    "math.rsqrt": Operation("math", "Rsqrt"),
    "math.exp": Operation("numpy", "Exp"),
    "math.log": Operation("numpy", "Log"),
    "math.tanh": Operation("numpy", "Tanh"),
    "math.sigmoid": Operation("nn", "Sigmoid"),
    "math.softplus": Operation("nn", "Softplus", ("features",)),
    "math.reduce_mean": Operation("numpy", "Mean", ("input_tensor",), _REDUCE),
    "math.reduce_sum": Operation("numpy", "Sum", ("input_tensor",), _REDUCE),
    "math.reduce_max": Operation("numpy", "Max", ("input_tensor",), _REDUCE),
    "math.reduce_min": Operation("numpy", "Min", ("input_tensor",), _REDUCE),
    "linalg.matmul": Operation("numpy", "Matmul", ("a", "b")),
    "nn.relu": Operation("nn", "Relu", ("features",)),
    "nn.relu6": Operation("nn", "Relu6", ("features",)),
    "nn.silu": Operation("nn", "Silu", ("features",)),
    "nn.swish": Operation("nn", "Silu", ("features",)),
    "nn.sigmoid": Operation("nn", "Sigmoid"),
    "nn.tanh": Operation("numpy", "Tanh"),
    "nn.softmax": Operation("nn", "Softmax", ("logits",), (("axis", "axis", -1),)),
    "identity": Operation("core", "StopGradient", ("input",)),
    "stop_gradient": Operation("core", "StopGradient", ("input",)),
    "cast": Operation("core", "Cast", ("x",), (("dtype", "dtype", None),)),
    "concat": Operation("numpy", "Concatenate", ("values",), (("axis", "axis", 0),)),
    "stack": Operation("numpy", "Stack", ("values",), (("axis", "axis", 0),)),
    "reshape": Operation("numpy", "Reshape", ("tensor",), (("shape", "newshape", None),)),
    "transpose": Operation("numpy", "Transpose", ("a",), (("perm", "axes", None),)),
    "expand_dims": Operation("numpy", "ExpandDims", ("input",), (("axis", "axis", None),)),
    "squeeze": Operation("numpy", "Squeeze", ("input",), (("axis", "axis", None),)),
    "clip_by_value": Operation(
        "numpy", "Clip", ("t",), (("clip_value_min", "x_min", None), ("clip_value_max", "x_max", None))
    ),
    "image.resize": Operation(
        "image",
        "Resize",
        ("images",),
        (("size", "size", None), ("method", "interpolation", "bilinear"), ("antialias", "antialias", False)),
    ),
}
GET_ITEM = "__operators__.getitem"
# Arguments that do not change the values.
IGNORED = frozenset({"name", "data_format"})


def is_operation(layer: JsonObject) -> bool:
    """Whether Keras 2 recorded a raw TensorFlow operation as this layer."""
    return layer.get("class_name") in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


def tensor(layer: str, node: int, index: int) -> JsonObject:
    """A reference to an output of a layer's call as Keras 3 writes it; Keras ignores the shape in it."""
    inner = {"shape": [None], "dtype": "float32", "keras_history": [layer, node, index]}
    return {"class_name": "__keras_tensor__", "config": inner}


def repair_operation(layer: JsonObject, notes: Counter[str]) -> JsonObject:
    """The operation of Keras 3 that computes what the TFOpLambda `layer` does.

    Raises InputError, naming layer and function, where Keras 3 has no such operation or lacks one of its arguments.
    """
    inner = layer["config"]
    function, name = str(inner.get("function", "")), str(layer.get("name") or inner.get("name"))
    nodes = layer.get("inbound_nodes") or []
    if function == GET_ITEM and len(nodes) == 1:
        notes["TensorFlow slices between layers are now Keras operations"] += 1
        args, kwargs = _arguments(nodes[0], ("tensor", "slice_spec"))
        calls = [{"args": [args.get("tensor"), _slices(args.get("slice_spec"))], "kwargs": {}}]
        return _layer("numpy", "GetItem", name, {}, calls)
    operation = OPERATIONS.get(function.removeprefix("compat.v1."))
    if operation is None or not nodes:
        raise InputError(
            f"layer {name}: Keras 3 has no operation for TensorFlow's {function or layer['class_name']}\n{REBUILD}"
        )
    notes["TensorFlow operations between layers are now Keras operations"] += 1
    settings: JsonObject | None = None
    calls = []
    for node in nodes:
        parameters = (*operation.inputs, *(theirs for theirs, _, _ in operation.settings))
        given, kwargs = _arguments(node, parameters)
        made = {ours: given.pop(theirs, default) for theirs, ours, default in operation.settings}
        unknown = sorted(key for key, value in kwargs.items() if not _absent(value) and key not in IGNORED)
        missing = [key for key in operation.inputs if key not in given]
        if unknown or missing or (settings is not None and settings != made):
            fault = ", ".join(unknown + missing) or "varying arguments"
            raise InputError(f"layer {name}: {function} with {fault} is not supported\n{REBUILD}")
        settings = made
        calls.append({"args": [given[key] for key in operation.inputs], "kwargs": {}})
    return _layer(operation.module, operation.name, name, settings or {}, calls)


def _absent(value: Json) -> bool:
    """Whether an argument is like none given. 0 is not: it may be an axis."""
    return value is None or value is False


def _arguments(node: JsonObject, parameters: tuple[str, ...]) -> tuple[JsonObject, JsonObject]:
    """The arguments of a call by parameter name: those in `parameters`, and all others."""
    given = dict(zip(parameters, node["args"], strict=False))
    rest = {}
    for key, value in node["kwargs"].items():
        if key in parameters:
            given[key] = value
        else:
            rest[key] = value
    return given, rest


def _slices(spec: Json) -> Json:
    """An index in the spelling of Keras 3: slices, integers, None (a new axis) and Ellipsis."""
    if isinstance(spec, list):
        return [_slices(item) for item in spec]
    if isinstance(spec, dict) and {"start", "stop", "step"} <= set(spec):
        return {"class_name": "__slice__", "config": {key: spec[key] for key in ("start", "stop", "step")}}
    if spec == "..." or (isinstance(spec, dict) and spec.get("class_name") == "__ellipsis__"):
        return {"class_name": "__ellipsis__", "config": {}}
    return spec


def _layer(module: str, class_name: str, name: str, settings: JsonObject, calls: list[JsonObject]) -> JsonObject:
    return {
        "module": f"keras.src.ops.{module}",
        "class_name": class_name,
        "config": {"name": name, **settings},
        "registered_name": class_name,
        "name": name,
        "inbound_nodes": calls,
    }
