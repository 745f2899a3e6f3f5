"""The reference that artifacts are held against: Keras's own predictions, the same model in float64, the controls.

`golden` runs the model as its author wrote it, before any rewrite. Comparing is `converter.proof.comparison`'s work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from converter.core.data import Array, Arrays, Golden, Traced
from converter.core.errors import ConversionError, InputError
from converter.core.samples import reverse_channels
from converter.core.sketch import SAMPLES
from converter.core.text import reason_of
from converter.tracing import layer_ends
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.signature import Signature
from converter.tracing.trace import trace
from converter.tracing.widening import as_single, widened

SCALE = 1.001
"""What one kernel is multiplied by in the control `kernel-scaled-1.001`."""


def predict(model: Any, signature: Signature, inputs: Arrays) -> dict[str, Array]:
    """`model.predict` on inputs by name, shape (samples, ...); outputs by name, half precision widened to float32.

    Raises InputError where Keras cannot run the model: a name that TensorFlow refuses, no memory, code of a layer.
    """
    import keras

    flat = [inputs[spec.name] for spec in signature.inputs]
    try:
        outputs = model.predict(signature.pack(flat), batch_size=len(flat[0]), verbose=0)
    except Exception as error:  # the user's own layers run here and may raise anything
        raise InputError(
            f"{model.name}: Keras cannot run the model: {reason_of(error)}\n"
            "mend it so that model.predict runs; --debug shows where it happened"
        ) from error
    arrays = [as_single(np.asarray(array)) for array in keras.tree.flatten(outputs)]
    return {spec.name: array for spec, array in zip(signature.outputs, arrays, strict=True)}


def golden(
    model: Any, signature: Signature, inputs: Arrays, *, layers: bool = True
) -> tuple[Golden, tuple[LayerEnd, ...]]:
    """Predictions on `inputs`, the same in float64, and the outputs of the negative controls; and the layers' ends.

    Controls: "channels-reversed" where an input has more than one channel, "kernel-scaled-1.001" where the model has a
    kernel. The ends are sketches of each layer's activations for the first samples, empty without `layers` and where
    the model cannot be traced or run as a graph. The model's weights are as before afterwards, to the bit.
    """
    references = predict(model, signature, inputs)
    controls: dict[str, Mapping[str, Array]] = {}
    reversed_inputs = reverse_channels(inputs, signature.inputs)
    if reversed_inputs is not None:
        controls["channels-reversed"] = predict(model, signature, reversed_inputs)
    kernel = _middle_kernel(model)
    if kernel is not None:
        with _scaled(kernel):
            controls[f"kernel-scaled-{SCALE}"] = predict(model, signature, inputs)
    traced = _unfolded(model, signature)
    if traced is None:
        return Golden(inputs, references, {}, controls), ()
    ends, single = _in_single(traced, signature, inputs) if layers else ((), [])
    doubled, exact_ends = _in_double(traced, signature, inputs, ends)
    return Golden(inputs, references, doubled, controls), layer_ends.measured(
        ends, single, exact_ends
    ) if single else ()


def exact(model: Any, signature: Signature, inputs: Arrays) -> dict[str, Array]:
    """The model's outputs computed in float64, float32 weights taken as they are.

    The traced graph is turned into a float64 graph, operator by operator. Empty where TensorFlow has no float64 kernel
    for an operator on this machine: the noise is then not measured.
    """
    traced = _unfolded(model, signature)
    return {} if traced is None else _in_double(traced, signature, inputs, ())[0]


def _unfolded(model: Any, signature: Signature) -> Traced | None:
    try:
        return trace(model, signature, fold=False)
    except ConversionError:
        return None


def _in_single(traced: Traced, signature: Signature, inputs: Arrays) -> tuple[tuple[LayerEnd, ...], list[Array]]:
    """The layers' ends in `traced` and what `layer_ends.watch` gives of them in float32; empty where impossible."""
    ends = layer_ends.find(traced)
    first = {name: array[:SAMPLES] for name, array in inputs.items()}
    _, found = _run(traced.graph_def, _feeds(traced.weights), signature, first, ends)
    return (ends, found) if found else ((), [])


def _in_double(
    traced: Traced, signature: Signature, inputs: Arrays, ends: Sequence[LayerEnd]
) -> tuple[dict[str, Array], list[Array]]:
    """The outputs of `traced` in float64 and what `layer_ends.watch` gives of `ends`; both empty where impossible."""
    graph_def = widened(traced.graph_def, {"float32": "float64"})
    feeds = _widened_weights(graph_def, traced.weights)
    return _run(graph_def, feeds, signature, {name: _as_float64(array) for name, array in inputs.items()}, ends)


def _run(
    graph_def: Any, feeds: dict[str, Array], signature: Signature, inputs: Arrays, ends: Sequence[LayerEnd]
) -> tuple[dict[str, Array], list[Array]]:
    """The outputs of `graph_def` by name, and of the first batch what `layer_ends.watch` gives of `ends`.

    Both are empty where TensorFlow has no kernel for an operator.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import rewriter_config_pb2

    names = [f"{spec.name}:0" for spec in signature.outputs]
    count = len(next(iter(inputs.values())))
    pieces: list[list[Array]] = []
    watched: list[Array] = []
    config = tf.compat.v1.ConfigProto()
    config.graph_options.optimizer_options.global_jit_level = tf.compat.v1.OptimizerOptions.OFF
    # fused convolutions have no kernel for groups
    config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(graph_def, name="")
            extra = layer_ends.watch(graph, ends)
            with tf.compat.v1.Session(graph=graph, config=config) as session:
                for start in range(0, count, SAMPLES):
                    batch = {f"{name}:0": array[start : start + SAMPLES] for name, array in inputs.items()}
                    fetched = session.run(names if start else [*names, *extra], {**feeds, **batch})
                    watched = watched or fetched[len(names) :]
                    pieces.append(fetched[: len(names)])
        except (ValueError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError):
            return {}, []
    joined = [np.concatenate([piece[index] for piece in pieces]) for index in range(len(names))]
    return {spec.name: array for spec, array in zip(signature.outputs, joined, strict=True)}, watched


def _feeds(weights: Arrays) -> dict[str, Array]:
    return {f"{name}:0": array for name, array in weights.items()}


def _as_float64(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _widened_weights(graph_def: Any, weights: Arrays) -> dict[str, Array]:
    """Let `graph_def` take its float32 weights as they are and widen each where it is used; the feeds.

    A float64 copy of all weights at once would take twice the model's memory.
    """
    from tensorflow.core.framework import types_pb2

    feeds = {}
    for node in list(graph_def.node):
        if node.name not in weights:
            continue
        array = weights[node.name]
        if array.dtype != np.float32:
            feeds[f"{node.name}:0"] = array
            continue
        stored = graph_def.node.add()
        stored.CopyFrom(node)
        stored.name = f"{node.name}/float32"
        stored.attr["dtype"].type = types_pb2.DT_FLOAT
        feeds[f"{stored.name}:0"] = array
        node.op, node.input[:] = "Cast", [stored.name]
        node.attr.clear()
        node.attr["SrcT"].type, node.attr["DstT"].type = types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE
    return feeds


def _middle_kernel(model: Any) -> Any:
    """The kernel of the middle one of the layers that convolve (or, without any, multiply)."""
    kernels = [variable for variable in model.variables if variable.path.rsplit("/", 1)[-1].endswith("kernel")]
    convolutions = [variable for variable in kernels if len(variable.shape) > 2] or kernels
    return convolutions[len(convolutions) // 2] if convolutions else None


@contextmanager
def _scaled(kernel: Any) -> Iterator[None]:
    before = kernel.numpy()
    kernel.assign(before * np.float32(SCALE))
    try:
        yield
    finally:
        kernel.assign(before)
