"""model -> Traced: one TensorFlow graph of the forward pass, without its large weights.

Every variable that the graph reads and every eager tensor that it captured becomes a Placeholder if it is a kernel or
otherwise large, and a constant if it is small; TensorFlow folds what is constant, and `.folding` moves the
per-channel arithmetic of batch normalizations into the kernels. The result needs no Keras model any more.
What a format does with it lives in `converter/formats/`; how nodes are named in `.naming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from converter.core.data import Activation, Array, Traced
from converter.core.errors import ConversionError
from converter.core.text import reason_of
from converter.tracing.calls import affine, any_size, replaced_calls
from converter.tracing.context import inlined_functions
from converter.tracing.folding import fold_affine, settle_reshapes
from converter.tracing.naming import described_layer, keras_names, node_of, rename_nodes
from converter.tracing.signature import Signature
from converter.tracing.widening import HALVES, as_single, half_in, widened

LARGE_VECTOR, LARGE_KERNEL = 64 * 1024, 1024
"""Bytes above which a vector, or a tensor of two axes and more, stays out of the graph. Vectors stay in longer: the
arithmetic of biases and normalizations folds only where it is constant."""

_PASS_THROUGH = {"Identity", "Squeeze", "StopGradient", "EnsureShape"}
_ACTIVATIONS: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def trace(model: Any, signature: Signature, *, fold: bool = True) -> Traced:
    """Trace `model` once, for inference, with the shapes of `signature` (None is dynamic).

    With `fold` False the graph keeps the model's own arithmetic: nothing is precomputed or moved into the kernels.
    What Keras computes in half precision is float32 in the graph, and so are its weights, inputs and outputs.
    Raises ConversionError where a layer cannot be traced for these shapes, and where the graph holds state that no
    format can carry (a lookup table, for example).
    """
    import tensorflow as tf

    def forward(*tensors: Any) -> dict[str, Any]:
        with inlined_functions():
            flat = signature.call(model, list(tensors))
        return {str(index): tf.identity(value) for index, value in enumerate(flat)}

    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=f"arg_{index}") for index, spec in enumerate(signature.inputs)]
    with replaced_calls(model, (any_size, affine) if fold else (any_size,)):
        try:
            concrete = tf.function(forward, autograph=False).get_concrete_function(*specs)
        except Exception as error:  # the layers' own code runs here and may raise anything
            shapes = ", ".join(str(tuple(spec.shape)) for spec in signature.inputs)
            raise ConversionError(
                f"{model.name}: cannot be traced for inputs of shape {shapes}: {reason_of(error)}\n"
                "build the model with fixed sizes where a layer computes with them"
            ) from error
    graph = concrete.graph
    results = [concrete.structured_outputs[str(index)] for index in range(len(signature.outputs))]
    captured = {inner.op.name: outer for outer, inner in graph.captures}
    given = [tensor.op.name for tensor in graph.inputs if tensor.op.name not in captured]
    graph_def = graph.as_graph_def(add_shapes=True)
    settle_reshapes(graph_def)
    _refuse_functions(graph_def, signature.layers)
    paths = {id(variable.value.handle): variable.path for variable in model.variables}
    weights, weight_paths = _take_weights_out(graph_def, captured, paths, signature.layers)
    half = half_in(graph_def)
    if half:
        graph_def = widened(graph_def, dict.fromkeys(HALVES, "float32"))
        weights = {name: as_single(array) for name, array in weights.items()}
    rename = keras_names(graph_def, model.name, signature.layers, weight_paths)
    rename |= {node: spec.name for node, spec in zip(given, signature.inputs, strict=True)}
    rename |= {tensor.op.name: spec.name for tensor, spec in zip(results, signature.outputs, strict=True)}
    rename_nodes(graph_def, rename)
    weights = {rename.get(name, name): array for name, array in weights.items()}
    coarse = {spec.name for spec, tensor in zip(signature.outputs, results, strict=True) if tensor.dtype.name in HALVES}
    outputs = [
        replace(
            spec,
            shape=_static_shape(tensor, spec.shape),
            dtype="float32" if spec.name in coarse else tensor.dtype.name,
        )
        for spec, tensor in zip(signature.outputs, results, strict=True)
    ]
    if fold:
        kept = [spec.name for spec in (*signature.inputs, *outputs)]
        graph_def, weights = fold_affine(_fold_constants(graph_def, kept), weights, set(kept))
    nodes = {node.name: node for node in graph_def.node}
    return Traced(
        graph_def=graph_def,
        inputs={spec.name: spec for spec in signature.inputs},
        # probabilities in half precision have too few digits for their logits: they are compared as values
        outputs={
            spec.name: spec if spec.name in coarse else replace(spec, activation=_activation(nodes, spec.name))
            for spec in outputs
        },
        weights={name: array for name, array in weights.items() if name in nodes},
        layers=signature.layers,
        half=half,
    )


def _static_shape(tensor: Any, declared: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return declared if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _refuse_functions(graph_def: Any, layers: Mapping[str, str]) -> None:
    functions = {function.signature.name for function in graph_def.library.function}
    for node in graph_def.node:
        called = [value.func.name for value in node.attr.values() if value.func.name in functions]
        if called or node.op in functions:
            raise ConversionError(
                f"{described_layer(node.name, layers)}: {node.op} calls a function that cannot be inlined\n"
                "no loop or condition on tensors fits all formats: write it with keras.ops on whole tensors"
            )


def _take_weights_out(
    graph_def: Any, captured: Mapping[str, Any], paths: Mapping[int, str], layers: Mapping[str, str]
) -> tuple[dict[str, Array], dict[str, str]]:
    """Replace each read of a captured variable, and each captured tensor, by a Placeholder or a Const.

    Returns the arrays of the placeholders and, for each node that stands for a variable, the variable's path.
    """
    import tensorflow as tf

    weights: dict[str, Array] = {}
    weight_paths: dict[str, str] = {}
    first_read: dict[str, str] = {}
    for node in graph_def.node:
        if node.op == "ReadVariableOp" and node.input[0] in captured:
            source = node.input[0]
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            if source in first_read:
                _become(node, "Identity", dtype, first_read[source])
                continue
            first_read[source] = node.name
            if id(captured[source]) in paths:
                weight_paths[node.name] = paths[id(captured[source])]
            value = tf.raw_ops.ReadVariableOp(resource=captured[source], dtype=dtype)
        elif node.op == "Placeholder" and node.name in captured and captured[node.name].dtype != tf.resource:
            value = captured[node.name]
            dtype = value.dtype
        else:
            continue
        plain = value.shape.rank and dtype in (tf.float32, tf.float16, tf.float64, tf.int32, tf.int64)
        array = np.asarray(memoryview(value)) if plain else value.numpy()  # a memoryview shares the variable's memory
        if getattr(array, "nbytes", 0) > (LARGE_KERNEL if np.ndim(array) > 1 else LARGE_VECTOR):
            weights[node.name] = array
            _become(node, "Placeholder", dtype, array.shape)
        else:
            _become(node, "Const", dtype, array)
    _drop_resources(graph_def, {name for name, outer in captured.items() if outer.dtype == tf.resource}, layers)
    return weights, weight_paths


def _drop_resources(graph_def: Any, resources: set[str], layers: Mapping[str, str]) -> None:
    for node in graph_def.node:
        if any(name.removeprefix("^") in resources for name in node.input):
            raise ConversionError(
                f"{described_layer(node.name, layers)}: {node.op} works on state that is no plain variable\n"
                "no format can hold it: move it out of the model"
            )
    kept = [node for node in graph_def.node if node.name not in resources]
    del graph_def.node[:]
    graph_def.node.extend(kept)


def _become(node: Any, op: str, dtype: Any, content: Any) -> None:
    """Turn `node` into an Identity of a node, a Placeholder of a shape, or a Const of a value."""
    import tensorflow as tf

    node.op = op
    del node.input[:]
    node.attr.clear()
    node.attr["T" if op == "Identity" else "dtype"].type = dtype.as_datatype_enum
    if op == "Identity":
        node.input.append(content)
    elif op == "Const":
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(content, dtype))
    else:
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(content).as_proto())


def _fold_constants(graph_def: Any, kept: list[str]) -> Any:
    """TensorFlow's own constant folding and pruning; the nodes named in `kept` survive."""
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers[:] = ["pruning", "constfold", "dependency", "pruning"]
    options.experimental_disable_folding_quantization_emulation = True
    options.min_graph_nodes = -1
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend(kept)
    optimized = tf_optimizer.OptimizeGraph(config, meta_graph)
    for node in optimized.node:  # inference has no side effect that an order would protect
        node.input[:] = [name for name in node.input if not name.startswith("^")]
    return optimized


def _activation(nodes: Mapping[str, Any], output: str) -> Activation:
    """How an output ends: the operator behind it, looking through nodes that keep the values."""
    node = nodes[output]
    while node.op in _PASS_THROUGH and node.input:
        node = nodes[node_of(node.input[0])]
    return _ACTIVATIONS.get(node.op, "linear")
