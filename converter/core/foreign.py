"""Names for the objects of libraries that have no types: each says what it is, none is checked.

Annotations alone use them; nothing of those libraries is imported here.
"""

from __future__ import annotations

from typing import Any, TypeAlias

KerasModel: TypeAlias = Any
"""keras.Model"""

KerasLayer: TypeAlias = Any
"""keras.layers.Layer"""

KerasOperation: TypeAlias = Any
"""A node's operation in a functional model: keras.layers.Layer or keras.Operation"""

KerasTensor: TypeAlias = Any
"""keras.KerasTensor: a symbolic tensor with `shape` and `dtype`"""

KerasVariable: TypeAlias = Any
"""keras.Variable"""

Tensor: TypeAlias = Any
"""tf.Tensor, or what Keras takes for one"""

TensorTree: TypeAlias = Any
"""Tensors, or their shapes, in nested lists, tuples and dicts: what keras.tree walks over"""

DType: TypeAlias = Any
"""tf.DType"""

TfGraph: TypeAlias = Any
"""tf.Graph"""

GraphDef: TypeAlias = Any
"""tensorflow.GraphDef, a protobuf message"""

NodeDef: TypeAlias = Any
"""tensorflow.NodeDef, a protobuf message"""

OnnxModel: TypeAlias = Any
"""onnx.ModelProto"""

OnnxGraph: TypeAlias = Any
"""onnx.GraphProto"""

OnnxNode: TypeAlias = Any
"""onnx.NodeProto"""

OnnxTensor: TypeAlias = Any
"""onnx.TensorProto"""

FlatbufferObject: TypeAlias = Any
"""An object of TensorFlow Lite's generated schema (ModelT, SubGraphT, TensorT, OperatorT)"""

Module: TypeAlias = Any
"""An imported module without types"""

Session: TypeAlias = Any
"""A loaded model in a library that runs it: onnxruntime.InferenceSession, a LiteRT Interpreter, …"""

Json: TypeAlias = Any
"""A value of JSON: dict, list, str, int, float, bool or None"""

JsonObject: TypeAlias = dict[str, Any]
"""An object of JSON"""

Given: TypeAlias = dict[str, Any]
"""Arguments as a caller gave them, of any type until they are checked"""

Facts: TypeAlias = dict[str, Any]
"""What goes into a report or a manifest as it is: JSON, once `converter.core.jsonable.plain` has seen it"""
