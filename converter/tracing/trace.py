"""model -> Traced: one TensorFlow graph of the forward pass, without its large weights.

Every variable that the graph reads, and every eager tensor that it captured, becomes a Placeholder if it is large and a
constant if it is small. TensorFlow folds what is constant, and `.folding` moves the per-channel arithmetic of batch
normalizations into the kernels. The result is independent of the Keras model. What a format makes of it is in
`converter.formats`; how nodes are named is in `.naming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Activation, Array, TensorSpec, Traced
from converter.core.errors import ConversionError
from converter.core.foreign import DType, GraphDef, KerasModel, NodeDef, Tensor
from converter.tracing.concrete import concrete
from converter.tracing.constants import fold_constants
from converter.tracing.eager import shared_array
from converter.tracing.equivalents import RULES
from converter.tracing.folding import cancel_reversals, fold_affine, settle_reshapes
from converter.tracing.functions import drop_unused, name_by_content
from converter.tracing.lowering import lowered
from converter.tracing.memory import refuse_giants
from converter.tracing.naming import described_layer, keras_names, rename_nodes
from converter.tracing.nodes import needed_by, node_of
from converter.tracing.signature import Signature, legal_name, legal_path
from converter.tracing.state import seed_states, without_changes
from converter.tracing.widening import HALVES, OTHERS, as_single, computes_in_double, half_in, widened

LARGE_VECTOR, LARGE_KERNEL = 64 * 1024, 1024
"""Bytes above which a vector, or a tensor of two axes and more, becomes a Placeholder. The limit for vectors is higher
because the arithmetic of biases and normalizations folds only where it is constant."""

_PASS_THROUGH = {"Identity", "Squeeze", "StopGradient", "EnsureShape"}
_ACTIVATIONS: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class _Weights:
    """What was taken out of a graph, by node name: the arrays of Placeholders, and the paths of Keras's variables."""

    arrays: dict[str, Array]
    paths: dict[str, str]


def trace(model: KerasModel, signature: Signature, *, fold: bool = True) -> Traced:
    """Trace `model` once, for inference, with the shapes of `signature` (None is dynamic).

    With `fold` False the graph keeps the model's own arithmetic: nothing is precomputed or moved into the kernels, and
    every kernel is in `weights`, however small.
    What Keras computes in half precision, and a model of float64, is float32 in the graph, including weights, inputs
    and outputs. Raises
    ConversionError where a layer cannot be traced for these shapes, and where the graph holds state that no format can
    store (a lookup table, for example).
    """
    found = concrete(model, signature, fold)
    graph = found.function.graph
    results = [found.function.structured_outputs[str(index)] for index in range(len(signature.outputs))]
    captured = {inner.op.name: outer for outer, inner in graph.captures}
    arguments = [tensor.op.name for tensor in graph.inputs if tensor.op.name not in captured]
    graph_def = found.graph_def(fold)
    refuse_giants(graph_def, signature.layers)
    settle_reshapes(graph_def)
    graph_def = lowered(graph_def, {name: RULES[name] for name in ("CheckNumerics", "Empty")})
    if fold:
        cancel_reversals(graph_def)
    seeds = {name for name, outer in captured.items() if id(outer) in seed_states(model)}
    warnings = without_changes(graph_def, [tensor.op.name for tensor in results], seeds, signature.layers)
    _keep_needed(graph_def, [*arguments, *(tensor.op.name for tensor in results)])
    paths = {id(variable.value.handle): legal_path(variable.path) for variable in model.variables}
    double = computes_in_double(graph_def, arguments, [tensor.op.name for tensor in results])
    taken = _take_weights_out(graph_def, captured, paths, signature.layers, LARGE_KERNEL if fold else 0)
    weights, half = taken.arrays, half_in(graph_def) or ("float64" if double else "")
    if half:
        graph_def = widened(graph_def, dict.fromkeys(OTHERS if double else HALVES, "float32"))
        weights = {name: as_single(array) for name, array in weights.items()}
    rename = keras_names(graph_def, legal_name(model.name), signature.layers, taken.paths)
    rename |= {node: spec.name for node, spec in zip(arguments, signature.inputs, strict=True)}
    rename |= {tensor.op.name: spec.name for tensor, spec in zip(results, signature.outputs, strict=True)}
    rename_nodes(graph_def, rename)
    weights = {rename.get(name, name): array for name, array in weights.items()}
    if fold:
        kept = [spec.name for spec in (*signature.inputs, *signature.outputs)]
        graph_def, weights = fold_affine(fold_constants(graph_def, kept, weights), weights, set(kept))
    name_by_content(graph_def)
    nodes = {node.name: node for node in graph_def.node}
    outputs = (_output(spec, tensor, nodes) for spec, tensor in zip(signature.outputs, results, strict=True))
    return Traced(
        graph_def=graph_def,
        inputs={spec.name: spec for spec in signature.inputs},
        outputs={spec.name: spec for spec in outputs},
        weights={name: array for name, array in weights.items() if name in nodes},
        layers=signature.layers,
        half=half,
        warnings=warnings,
    )


def _output(spec: TensorSpec, tensor: Tensor, nodes: Mapping[str, NodeDef]) -> TensorSpec:
    """`spec` with the traced tensor's shape and type, and its activation; another precision is float32 in the graph."""
    shape = spec.shape if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    dtype = "float32" if tensor.dtype.name in OTHERS else tensor.dtype.name
    return replace(spec, shape=shape, dtype=dtype, activation=_activation(nodes, spec.name))


def _keep_needed(graph_def: GraphDef, kept: list[str]) -> None:
    """Remove what `kept` does not need: what inference would only write, and functions that nothing calls.

    The order of side effects is removed too; inference has none.
    """
    for node in graph_def.node:
        node.input[:] = [name for name in node.input if not name.startswith("^")]
    needed = needed_by(kept, {node.name: node for node in graph_def.node})
    nodes = [node for node in graph_def.node if node.name in needed]
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    drop_unused(graph_def)


def _take_weights_out(
    graph_def: GraphDef,
    captured: Mapping[str, Tensor],
    paths: Mapping[int, str],
    layers: Mapping[str, str],
    large: int,
) -> _Weights:
    """Replace each read of a captured variable, and each captured tensor, by a Placeholder or a Const.

    `captured` has the eager tensors by the name of their node, `paths` the variables' paths by the id of their handle.
    A floating-point tensor of two axes and more that has more than `large` bytes becomes a Placeholder.
    """
    import tensorflow as tf

    taken = _Weights({}, {})
    first_read: dict[str, str] = {}
    for node in graph_def.node:
        if node.op == "ReadVariableOp" and node.input[0] in captured:
            source = node.input[0]
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            if source in first_read:
                _become_identity(node, dtype, first_read[source])
                continue
            first_read[source] = node.name
            if id(captured[source]) in paths:
                taken.paths[node.name] = paths[id(captured[source])]
            value = tf.raw_ops.ReadVariableOp(resource=captured[source], dtype=dtype)
        elif node.op == "Placeholder" and node.name in captured and captured[node.name].dtype != tf.resource:
            value = captured[node.name]
            dtype = value.dtype
        else:
            continue
        array = shared_array(value)
        kernel = LARGE_KERNEL if array.dtype.kind != "f" else large
        if getattr(array, "nbytes", 0) > (kernel if np.ndim(array) > 1 else LARGE_VECTOR):
            taken.arrays[node.name] = array
            _become_placeholder(node, dtype, array.shape)
        else:
            _become_constant(node, dtype, array)
    _drop_resources(graph_def, {name for name, outer in captured.items() if outer.dtype == tf.resource}, layers)
    return taken


def _drop_resources(graph_def: GraphDef, resources: set[str], layers: Mapping[str, str]) -> None:
    for node in graph_def.node:
        if any(name.removeprefix("^") in resources for name in node.input):
            raise ConversionError(
                f"{described_layer(node.name, layers)}: {node.op} uses state that is not a plain variable\n"
                "no format can store it: move it out of the model"
            )
    kept = [node for node in graph_def.node if node.name not in resources]
    del graph_def.node[:]
    graph_def.node.extend(kept)


def _become_identity(node: NodeDef, dtype: DType, source: str) -> None:
    """Turn `node` into an Identity of the node `source`."""
    _cleared(node, "Identity").input.append(source)
    node.attr["T"].type = dtype.as_datatype_enum


def _become_placeholder(node: NodeDef, dtype: DType, shape: tuple[int, ...]) -> None:
    import tensorflow as tf

    _cleared(node, "Placeholder").attr["dtype"].type = dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())


def _become_constant(node: NodeDef, dtype: DType, array: Array) -> None:
    import tensorflow as tf

    _cleared(node, "Const").attr["dtype"].type = dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array, dtype))


def _cleared(node: NodeDef, op: str) -> NodeDef:
    """`node` itself as an `op` without inputs and attributes."""
    node.op = op
    del node.input[:]
    node.attr.clear()
    return node


def _activation(nodes: Mapping[str, NodeDef], output: str) -> Activation:
    """The activation that yields an output, where only nodes that keep the values stand between the two."""
    node = nodes[output]
    while node.op in _PASS_THROUGH and node.input:
        node = nodes[node_of(node.input[0])]
    return _ACTIVATIONS.get(node.op, "linear")
