"""model -> Traced: one TensorFlow graph of the forward pass, without its large weights.

Every variable that the graph reads and every eager tensor that it captured becomes a Placeholder if it is larger
than `LARGE` bytes, and a constant otherwise; TensorFlow then folds what is constant, which turns each batch
normalization into one multiplication and one addition, and `converter.folding` moves those into the kernels.
The result needs no Keras model any more. What a format does with it lives in `converter/formats/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from converter.core import Activation, Array, TensorSpec, Traced
from converter.errors import ConversionError
from converter.folding import fold_affine
from converter.signature import Signature

LARGE = 64 * 1024
"""Tensors of more bytes than this stay out of the graph (a batch normalization's vectors must stay in)."""

_PASS_THROUGH = {"Identity", "Squeeze", "StopGradient", "EnsureShape"}
_ACTIVATIONS: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


@contextmanager
def inlined_functions() -> Iterator[None]:
    """Run inner `tf.function`s as plain Python, so that Keras's XLA wrappers do not reach the graph."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def trace(model: Any, signature: Signature, *, fold: bool = True) -> Traced:
    """Trace `model` once, for inference, with the shapes of `signature` (None is dynamic).

    With `fold` False the graph keeps the model's own arithmetic: nothing is precomputed or moved into the kernels.
    Raises ConversionError where the graph holds state that no format can carry (a lookup table, for example).
    """
    import tensorflow as tf

    def forward(*tensors: Any) -> dict[str, Any]:
        with inlined_functions():
            flat = signature.call(model, list(tensors))
        return {str(index): tf.identity(value) for index, value in enumerate(flat)}

    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=f"arg_{index}") for index, spec in enumerate(signature.inputs)]
    with _affine_batch_norm(model) if fold else nullcontext():
        concrete = tf.function(forward, autograph=False).get_concrete_function(*specs)
    graph = concrete.graph
    results = [concrete.structured_outputs[str(index)] for index in range(len(signature.outputs))]
    captured = {inner.op.name: outer for outer, inner in graph.captures}
    given = [tensor.op.name for tensor in graph.inputs if tensor.op.name not in captured]
    graph_def = graph.as_graph_def()
    if graph_def.library.function:
        raise ConversionError(
            f"{_owner(graph_def, signature.layers)}: keeps a function ({graph_def.library.function[0].signature.name}) "
            "that could not be inlined\nrewrite its loop or condition without tf.while_loop and tf.cond"
        )
    weights = _take_weights_out(graph_def, captured, signature.layers)
    rename = _layer_paths(graph_def, model, signature.layers, captured)
    weights = {rename.get(node, node): array for node, array in weights.items()}
    rename |= {node: spec.name for node, spec in zip(given, signature.inputs, strict=True)}
    rename.update({tensor.op.name: spec.name for tensor, spec in zip(results, signature.outputs, strict=True)})
    _rename_nodes(graph_def, rename)
    outputs = [
        replace(spec, shape=_static_shape(tensor, spec.shape), dtype=tensor.dtype.name)
        for spec, tensor in zip(signature.outputs, results, strict=True)
    ]
    kept = {spec.name for spec in (*signature.inputs, *outputs)}
    if fold:
        names = [spec.name for spec in signature.inputs], [spec.name for spec in outputs]
        graph_def = _fold_constants(graph_def, *names)
        graph_def, weights = fold_affine(graph_def, weights, kept)
    nodes = {node.name: node for node in graph_def.node}
    return Traced(
        graph_def=graph_def,
        inputs={spec.name: spec for spec in signature.inputs},
        outputs={spec.name: replace(spec, activation=_activation(nodes, spec.name)) for spec in outputs},
        weights={name: array for name, array in weights.items() if name in nodes},
        layers=signature.layers,
    )


@contextmanager
def _affine_batch_norm(model: Any) -> Iterator[None]:
    """Let each batch normalization over the last axis trace as `x * scale + shift` instead of some twenty operators.

    Ioffe and Szegedy (2015), inference: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale, here in
    float64 and rounded once.
    """
    import keras
    import tensorflow as tf

    changed = []
    flatten = getattr(model, "_flatten_layers", None)
    for layer in flatten() if flatten else ():
        if type(layer) is not keras.layers.BatchNormalization or not layer.built or layer.compute_dtype != "float32":
            continue
        rank = layer.input_spec.ndim or len(layer.input_spec.shape or ())
        if layer.axis not in (-1, rank - 1) or "call" in layer.__dict__:
            continue
        mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
        scale = 1.0 / np.sqrt(variance + layer.epsilon)
        if layer.scale:
            scale = scale * np.asarray(layer.gamma, np.float64)
        shift = -mean * scale
        if layer.center:
            shift = shift + np.asarray(layer.beta, np.float64)

        def call(
            inputs: Any,
            training: bool | None = None,
            mask: Any = None,
            scale: Array = scale.astype(np.float32),
            shift: Array = shift.astype(np.float32),
        ) -> Any:
            return tf.add(tf.multiply(inputs, scale), shift)

        layer.__dict__["call"] = call
        changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.__dict__["call"]


def _layer_paths(
    graph_def: Any, model: Any, layers: Mapping[str, str], captured: Mapping[str, Any]
) -> dict[str, str]:
    """New node names: Keras's layer names without the model's own scope and without the counters TensorFlow adds.

    A weight takes its variable's path (`conv1/kernel`). Names stay unique.
    """
    paths = {id(getattr(variable.value, "handle", None)): variable.path for variable in model.variables}
    weights = {
        node: paths.get(id(outer))
        for node, outer in captured.items()
    }
    scopes = {*layers, model.name}
    rename: dict[str, str] = {}
    taken = {node.name for node in graph_def.node}
    for node in graph_def.node:
        parts = [_without_counter(part, scopes) for part in node.name.split("/")]
        if len(parts) > 1 and parts[0] == model.name:
            parts = parts[1:]
        wanted = "/".join(parts)
        if wanted == node.name:
            continue
        if wanted in taken:
            wanted = next(f"{wanted}_{n}" for n in range(1, len(taken) + 2) if f"{wanted}_{n}" not in taken)
        taken.add(wanted)
        rename[node.name] = wanted
    return rename


def _without_counter(part: str, scopes: set[str]) -> str:
    base, _, count = part.rpartition("_")
    return base if part not in scopes and count.isdigit() and base in scopes else part


def _static_shape(tensor: Any, declared: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return declared if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _owner(graph_def: Any, layers: Mapping[str, str]) -> str:
    calls = {function.signature.name for function in graph_def.library.function}
    for node in graph_def.node:
        if node.op in calls or any(value.func.name in calls for value in node.attr.values()):
            return layer_of(node.name, layers)
    return "model"


def layer_of(node_name: str, layers: Mapping[str, str]) -> str:
    """The Keras layer that a graph node belongs to: the innermost part of its path that is a layer's name."""
    parts = node_name.split("/")
    return next((part for part in reversed(parts) if part in layers), parts[0])


def _take_weights_out(graph_def: Any, captured: Mapping[str, Any], layers: Mapping[str, str]) -> dict[str, Array]:
    """Replace each read of a captured variable, and each captured tensor, by a Placeholder or a Const; its arrays."""
    import tensorflow as tf

    weights: dict[str, Array] = {}
    first_read: dict[str, str] = {}
    for node in graph_def.node:
        if node.op == "ReadVariableOp" and node.input[0] in captured:
            source = node.input[0]
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            if source in first_read:
                _become(node, "Identity", dtype, input=first_read[source])
                continue
            first_read[source] = node.name
            value = tf.raw_ops.ReadVariableOp(resource=captured[source], dtype=dtype)
        elif node.op == "Placeholder" and node.name in captured and captured[node.name].dtype != tf.resource:
            value = captured[node.name]
            dtype = value.dtype
        else:
            continue
        array = np.asarray(memoryview(value)) if value.shape.rank and value.dtype != tf.bfloat16 else value.numpy()
        if array.nbytes > LARGE:
            weights[node.name] = array
            _become(node, "Placeholder", dtype, shape=array.shape)
        else:
            _become(node, "Const", dtype, value=array)
    resources = {name for name, outer in captured.items() if outer.dtype == tf.resource}
    for node in graph_def.node:
        held = [name for name in node.input if name.removeprefix("^") in resources]
        if held:
            layer = layer_of(node.name, layers)
            raise ConversionError(
                f"{layer}: {node.op} reads state that is no variable ({layers.get(layer, 'unknown class')})\n"
                "no format can hold it: move it out of the model"
            )
    kept = [node for node in graph_def.node if node.name not in resources]
    del graph_def.node[:]
    graph_def.node.extend(kept)
    return weights


def _become(
    node: Any, op: str, dtype: Any, *, shape: tuple[int, ...] | None = None, value: Any = None, input: str | None = None
) -> None:
    import tensorflow as tf

    node.op = op
    del node.input[:]
    node.attr.clear()
    if op == "Identity":
        node.input.append(str(input))
        node.attr["T"].type = dtype.as_datatype_enum
        return
    node.attr["dtype"].type = dtype.as_datatype_enum
    if op == "Const":
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
    else:
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())


def _rename_nodes(graph_def: Any, rename: dict[str, str]) -> None:
    """Rename nodes and what reads them; a node that already has a wanted name makes room."""
    wanted = set(rename.values())
    for node in graph_def.node:
        if node.name in wanted and node.name not in rename:
            rename[node.name] = f"{node.name}/renamed"
    for node in graph_def.node:
        node.name = rename.get(node.name, node.name)
        for index, name in enumerate(node.input):
            control, bare = ("^", name[1:]) if name.startswith("^") else ("", name)
            base, _, port = bare.partition(":")
            if base in rename:
                node.input[index] = control + rename[base] + (f":{port}" if port else "")


def _fold_constants(graph_def: Any, inputs: list[str], outputs: list[str]) -> Any:
    """TensorFlow's own constant folding and pruning; node names of inputs and outputs survive."""
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers[:] = ["pruning", "constfold", "dependency", "pruning"]
    options.experimental_disable_folding_quantization_emulation = True
    options.min_graph_nodes = -1
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend(inputs + outputs)
    meta_graph.collection_def["train_op"].CopyFrom(fetches)
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _activation(nodes: Mapping[str, Any], output: str) -> Activation:
    """How an output ends: the operator behind it, looking through nodes that keep the values."""
    node = nodes[output]
    while node.op in _PASS_THROUGH and node.input:
        node = nodes[node.input[0].removeprefix("^").split(":")[0]]
    return _ACTIVATIONS.get(node.op, "linear")
