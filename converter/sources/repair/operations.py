"""Raw TensorFlow operations in a functional model of Keras 2, as Keras 3's own operations.

Keras 2 recorded `x / 127.5` or `tf.concat(...)` between layers as a TFOpLambda with the operation's dotted name. Keras
3 has an operation for each of those below; a name that is not in the table is an error, never a guess.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from converter.core.errors import InputError

Json = dict[str, Any]


class Operation(NamedTuple):
    """A class of `keras.src.ops.<module>`; `inputs` are TensorFlow's names of what it is called with.

    `settings` are what it is made with: TensorFlow's name, Keras's, and what TensorFlow takes where it is left out.
    """

    module: str
    name: str
    inputs: tuple[str, ...] = ("x",)
    settings: tuple[tuple[str, str, Any], ...] = ()


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
# Arguments that say nothing about the values.
IGNORED = frozenset({"name", "data_format"})


def is_operation(layer: Json) -> bool:
    return layer.get("class_name") in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


def tensor(layer: str, node: int, index: int) -> Json:
    """A reference to an output of a layer's call, in the spelling of Keras 3; its shape is not looked at."""
    inner = {"shape": [None], "dtype": "float32", "keras_history": [layer, node, index]}
    return {"class_name": "__keras_tensor__", "config": inner}


def mend_operation(layer: Json, notes: Counter[str]) -> Json:
    """The operation of Keras 3 that computes what the TFOpLambda `layer` does.

    Raises InputError, naming layer and function, where there is none or where it has arguments that Keras lacks.
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
            f"layer {name}: no counterpart of the TensorFlow operation {function or layer['class_name']}\n"
            "build the model in Python with Keras 3, and export it as package.module:function with --weights"
        )
    notes["TensorFlow operations between layers are now Keras operations"] += 1
    settings: Json | None = None
    calls = []
    for node in nodes:
        parameters = (*operation.inputs, *(theirs for theirs, _, _ in operation.settings))
        given, kwargs = _arguments(node, parameters)
        made = {ours: given.pop(theirs, default) for theirs, ours, default in operation.settings}
        unknown = sorted(key for key, value in kwargs.items() if value not in (None, False) and key not in IGNORED)
        missing = [key for key in operation.inputs if key not in given]
        if unknown or missing or (settings is not None and settings != made):
            raise InputError(
                f"layer {name}: {function} with {', '.join(unknown + missing) or 'varying arguments'} is not known"
            )
        settings = made
        calls.append({"args": [given[key] for key in operation.inputs], "kwargs": {}})
    return _layer(operation.module, operation.name, name, settings or {}, calls)


def _arguments(node: Json, parameters: tuple[str, ...]) -> tuple[Json, Json]:
    """The arguments of a call by the name of their parameter, and those that are none of `parameters`."""
    given = dict(zip(parameters, node["args"], strict=False))
    rest = {}
    for key, value in node["kwargs"].items():
        if key in parameters:
            given[key] = value
        else:
            rest[key] = value
    return given, rest


def _slices(spec: Any) -> Any:
    """What stands between brackets: slices, integers, None (a new axis) and Ellipsis."""
    if isinstance(spec, list):
        return [_slices(item) for item in spec]
    if isinstance(spec, dict) and {"start", "stop", "step"} <= set(spec):
        return {"class_name": "__slice__", "config": {key: spec[key] for key in ("start", "stop", "step")}}
    if spec == "..." or (isinstance(spec, dict) and spec.get("class_name") == "__ellipsis__"):
        return {"class_name": "__ellipsis__", "config": {}}
    return spec


def _layer(module: str, class_name: str, name: str, settings: Json, calls: list[Json]) -> Json:
    return {
        "module": f"keras.src.ops.{module}",
        "class_name": class_name,
        "config": {"name": name, **settings},
        "registered_name": class_name,
        "name": name,
        "inbound_nodes": calls,
    }
