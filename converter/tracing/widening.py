"""A TensorFlow graph in a wider floating-point type: every attribute, every constant; knows neither Keras nor a format.

Half precision becomes float32 for the artifacts, float32 becomes float64 for the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.core.data import Array

HALVES = ("float16", "bfloat16")
_ALWAYS_SINGLE = {"ResizeBilinear", "ResizeBicubic", "ResizeArea"}  # their result is float32 whatever they read


def as_single(array: Array) -> Array:
    """`array`, in float32 where it is half precision."""
    return array.astype(np.float32) if str(array.dtype) in HALVES else array


def half_in(graph_def: Any) -> str:
    """The half precision that a node of `graph_def` computes in, "float16" or "bfloat16", or ""."""
    import tensorflow as tf

    kinds = {tf.as_dtype(name).as_datatype_enum: name for name in HALVES}
    for node in graph_def.node:
        for value in node.attr.values():
            if value.WhichOneof("value") == "type" and value.type in kinds:
                return kinds[value.type]
    return ""


def widened(graph_def: Any, wider: Mapping[str, str]) -> Any:
    """A copy of `graph_def` with each type named in `wider` replaced; casts that no longer change anything are gone.

    An operator that yields float32 whatever it reads is followed by a cast where float32 is to be wider: its own
    arithmetic stays single.
    """
    import tensorflow as tf

    kinds = {tf.as_dtype(old).as_datatype_enum: tf.as_dtype(new).as_datatype_enum for old, new in wider.items()}
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    for node in list(result.node):
        for value in node.attr.values():
            which = value.WhichOneof("value")
            if which == "type":
                value.type = kinds.get(value.type, value.type)
            elif which == "tensor" and value.tensor.dtype in kinds:
                dtype = tf.as_dtype(kinds[value.tensor.dtype]).as_numpy_dtype
                value.tensor.CopyFrom(tf.make_tensor_proto(np.asarray(tf.make_ndarray(value.tensor)).astype(dtype)))
            elif which == "list":
                for index, kind in enumerate(value.list.type):
                    value.list.type[index] = kinds.get(kind, kind)
        if node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type:
            kind = node.attr["DstT"].type
            node.op = "Identity"
            for name in ("SrcT", "DstT", "Truncate"):
                node.attr.pop(name, None)
            node.attr["T"].type = kind
        elif node.op in _ALWAYS_SINGLE and "float32" in wider:
            single = result.node.add()
            single.CopyFrom(node)
            single.name = f"{node.name}/float32"
            node.op, node.input[:] = "Cast", [single.name]
            node.attr.clear()
            node.attr["SrcT"].type = tf.float32.as_datatype_enum
            node.attr["DstT"].type = tf.as_dtype(wider["float32"]).as_datatype_enum
    return result
