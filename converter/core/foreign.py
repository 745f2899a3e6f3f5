"""Names for objects of libraries that have no type annotations. Each name documents the object; nothing is checked.

They are used in annotations only, so nothing of those libraries is imported here.
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

KerasCallback: TypeAlias = Any
"""keras.callbacks.Callback"""

KerasDataset: TypeAlias = Any
"""keras.utils.PyDataset"""

KerasVariable: TypeAlias = Any
"""keras.Variable"""

Tensor: TypeAlias = Any
"""tf.Tensor, or another value that Keras accepts as a tensor"""

TensorTree: TypeAlias = Any
"""Tensors, or their shapes, in nested lists, tuples and dicts, as keras.tree traverses them"""

Scope: TypeAlias = Any
"""keras.name_scope"""

DType: TypeAlias = Any
"""tf.DType"""

TfGraph: TypeAlias = Any
"""tf.Graph"""

TfOperation: TypeAlias = Any
"""tf.Operation"""

TfRunOptions: TypeAlias = Any
"""tf.compat.v1.RunOptions"""

GraphDef: TypeAlias = Any
"""tensorflow.GraphDef, a protobuf message"""

NodeDef: TypeAlias = Any
"""tensorflow.NodeDef, a protobuf message"""

FunctionDef: TypeAlias = Any
"""tensorflow.FunctionDef, a protobuf message: a function of a GraphDef's library"""

MetaGraph: TypeAlias = Any
"""tensorflow.MetaGraphDef, a protobuf message: the graph of a SavedModel, its signatures and its saver"""

OnnxModel: TypeAlias = Any
"""onnx.ModelProto"""

OnnxGraph: TypeAlias = Any
"""onnx.GraphProto"""

OnnxNode: TypeAlias = Any
"""onnx.NodeProto"""

OnnxValue: TypeAlias = Any
"""onnx.ValueInfoProto"""

OnnxTensor: TypeAlias = Any
"""onnx.TensorProto"""

FlatbufferObject: TypeAlias = Any
"""An object of TensorFlow Lite's generated schema (ModelT, SubGraphT, TensorT, OperatorT)"""

FlatbufferBuilder: TypeAlias = Any
"""flatbuffers.Builder"""

Module: TypeAlias = Any
"""An imported module without types"""

Session: TypeAlias = Any
"""A loaded model in the library that runs it: onnxruntime.InferenceSession, a LiteRT Interpreter, …"""

Json: TypeAlias = Any
"""A JSON value: dict, list, str, int, float, bool or None"""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object"""

ClickValue: TypeAlias = Any
"""The value that click passes to a parameter type: text, or a default of any type"""

Default: TypeAlias = Any
"""A value of any type that replaces a missing one"""

Given: TypeAlias = dict[str, Any]
"""Arguments from a caller, of any type until they are checked"""

Facts: TypeAlias = dict[str, Any]
"""Content of a report or manifest that is copied without interpretation: JSON after `converter.core.jsonable.plain`"""

TfVariable: TypeAlias = Any
"""tf.Variable"""

TfFunction: TypeAlias = Any
"""A ConcreteFunction, or another callable of TensorFlow over named tensors"""

Tf2OnnxGraph: TypeAlias = Any
"""tf2onnx.graph.Graph"""

Tf2OnnxNode: TypeAlias = Any
"""tf2onnx.graph.Node"""

Tf2OnnxOptimizer: TypeAlias = Any
"""tf2onnx.optimizer.optimizer_base.GraphOptimizerBase"""

OnnxAttribute: TypeAlias = Any
"""The value of an ONNX node's attribute: a number, bytes, a list of them, a TensorProto or a GraphProto"""

KerasNode: TypeAlias = Any
"""keras.src.ops.node.Node: one call of a layer or operation in a functional model"""

KerasObject: TypeAlias = Any
"""A value in a Keras module: a class, a function, or a module"""

Site: TypeAlias = Any
"""A place in a model to which a rewrite rule may apply; each rule has its own class for it"""
