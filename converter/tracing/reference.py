"""The reference: Keras's own outputs, the same model in float64 ("exact"), and the outputs of the negative controls.

`measured` runs the model as its author wrote it, before any rewrite. Comparing is the work of
`converter.proof.comparison`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from converter.core.data import Array, Arrays, Golden, TensorSpec, Traced
from converter.core.errors import ConversionError, InputError
from converter.core.foreign import GraphDef, KerasModel, KerasVariable
from converter.core.samples import reverse_channels
from converter.core.sketch import SAMPLES
from converter.core.text import reason_of
from converter.tracing import layer_ends
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.signature import Signature
from converter.tracing.trace import trace
from converter.tracing.widening import as_single, become_cast, widened

SCALE = 1.001
"""The factor of one kernel in the control `kernel-scaled-1.001`"""


def predict(model: KerasModel, signature: Signature, inputs: Arrays) -> dict[str, Array]:
    """The outputs of `model.predict` by name; half precision becomes float32.

    Inputs are by name too, shape (samples, ...), and all samples are one batch. Raises InputError where Keras cannot
    run the model: a name that TensorFlow refuses, too little memory, an error in a layer's code.
    """
    import keras

    flat = [inputs[spec.name] for spec in signature.inputs]
    try:
        outputs = model.predict(signature.pack(flat), batch_size=len(flat[0]), verbose=0)
    except Exception as error:  # the user's own layers run here and may raise anything
        raise InputError(
            f"{model.name}: Keras cannot run the model: {reason_of(error)}\n"
            "fix it so that model.predict runs; --debug shows where the error occurs"
        ) from error
    arrays = [as_single(np.asarray(array)) for array in keras.tree.flatten(outputs)]
    return {spec.name: array for spec, array in zip(signature.outputs, arrays, strict=True)}


@dataclass(frozen=True)
class Measured:
    """The golden arrays of a model, the ends of its layers, and its outputs with the activation that each ends in.

    `half` is "float16" or "bfloat16" if Keras computes in it. The activations are "linear" if the model could not be
    traced.
    """

    golden: Golden
    ends: tuple[LayerEnd, ...]
    outputs: tuple[TensorSpec, ...]
    half: str = ""

    @property
    def by_output(self) -> dict[str, TensorSpec]:
        """The outputs by name."""
        return {spec.name: spec for spec in self.outputs}

    @property
    def precision(self) -> str:
        """The row of the tolerances."""
        return "float16" if self.half else "float32"


def measured(model: KerasModel, signature: Signature, inputs: Arrays, *, layers: bool = True) -> Measured:
    """The golden arrays for `inputs`, shape (samples, ...) by name: reference, exact, controls; and the layers' ends.

    Controls: "channels-reversed" where an input has more than one channel, "kernel-scaled-1.001" where the model has a
    kernel. The ends are sketches of each layer's activations for the first samples; there are none without `layers`,
    and where the model cannot be traced or run as a graph. The exact outputs are the traced graph in float64, operator
    by operator, with float32 weights; there are none where TensorFlow has no float64 kernel for an operator. The
    model's weights are bit for bit the same afterwards. Raises what `predict` raises.
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
        return Measured(Golden(inputs, references, {}, controls), (), signature.outputs)
    ends, single = _in_float32(traced, signature, inputs) if layers else ((), [])
    exact_outputs, exact_ends = _in_float64(traced, signature, inputs, ends)
    found = layer_ends.measured(ends, single, exact_ends) if single else ()
    golden = Golden(inputs, references, exact_outputs, controls)
    return Measured(golden, found, tuple(traced.outputs.values()), traced.half)


def _unfolded(model: KerasModel, signature: Signature) -> Traced | None:
    try:
        return trace(model, signature, fold=False)
    except ConversionError:
        return None


def _in_float32(traced: Traced, signature: Signature, inputs: Arrays) -> tuple[tuple[LayerEnd, ...], list[Array]]:
    """The layers' ends in `traced` and the float32 values of `layer_ends.watch`; both empty where it cannot run."""
    ends = layer_ends.find(traced)
    first = {name: array[:SAMPLES] for name, array in inputs.items()}
    feeds = {f"{name}:0": array for name, array in traced.weights.items()}
    _, found = _run(traced.graph_def, feeds, signature, first, ends)
    return (ends, found) if found else ((), [])


def _in_float64(
    traced: Traced, signature: Signature, inputs: Arrays, ends: Sequence[LayerEnd]
) -> tuple[dict[str, Array], list[Array]]:
    """The float64 outputs of `traced` and the values of `layer_ends.watch`; both empty where it cannot run."""
    graph_def = widened(traced.graph_def, {"float32": "float64"})
    feeds = _widened_weights(graph_def, traced.weights)
    doubled = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in inputs.items()}
    return _run(graph_def, feeds, signature, doubled, ends)


def _run(
    graph_def: GraphDef, feeds: dict[str, Array], signature: Signature, inputs: Arrays, ends: Sequence[LayerEnd]
) -> tuple[dict[str, Array], list[Array]]:
    """The outputs of `graph_def` by name, and the values of `layer_ends.watch` for the first batch.

    `feeds` are the weights by tensor name. Both results are empty where TensorFlow has no kernel for an operator.
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


def _widened_weights(graph_def: GraphDef, weights: Arrays) -> dict[str, Array]:
    """Add a Cast after each float32 weight of the float64 graph `graph_def`; returns the feeds by tensor name.

    So the weights stay float32 in memory: a float64 copy of all of them would take twice the model's size.
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
        become_cast(node, stored.name, "float32", "float64")
    return feeds


def _middle_kernel(model: KerasModel) -> KerasVariable | None:
    """The kernel of the layer in the middle of all convolutions, or of all layers with a kernel if none convolves."""
    kernels = [variable for variable in model.variables if variable.path.rsplit("/", 1)[-1].endswith("kernel")]
    convolutions = [variable for variable in kernels if len(variable.shape) > 2] or kernels
    return convolutions[len(convolutions) // 2] if convolutions else None


@contextmanager
def _scaled(kernel: KerasVariable) -> Iterator[None]:
    """Within the context, `kernel` is multiplied by `SCALE`."""
    before = kernel.numpy()
    kernel.assign(before * np.float32(SCALE))
    try:
        yield
    finally:
        kernel.assign(before)
