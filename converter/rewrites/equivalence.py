"""The proof of one replacement: the old part of the model and the new one on the same seeded numbers.

The part runs from the replacement's sources to its target, at the model's real sizes where they are known. The
difference is a relative L2 in float64 and must be at most min(cap, max(1e-6, 8 times the noise)). The noise is the
distance of the old part in its own precision from the old part in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from converter.core.data import Array, float64
from converter.core.distance import FLOAT32, Gate, relative_l2
from converter.core.foreign import KerasLayer, KerasModel, KerasOperation, KerasTensor, Tensor, TensorTree
from converter.core.text import first_line
from converter.rewrites.graph import Compute, Graph, call_errors, evaluate, is_functional, is_layer, is_weightless
from converter.rewrites.layers import array, channel_axis, needs_xla, renew
from converter.rewrites.probe import sizes
from converter.rewrites.rule import Replacement, as_array
from converter.tracing.context import inlined_functions

SINGLE = FLOAT32
HALF = Gate(factor=8.0, floor=1e-6, cap=1e-1)
"""Where a layer computes in float16 or bfloat16."""


@dataclass(frozen=True)
class Proof:
    """The measured distance of new from old, as a relative L2.

    `noise` is None where float64 is unavailable; the tolerance is then the gate's cap. It is 0 where it was not
    measured, since the difference is below the gate's floor. `problem` says why nothing could be compared.
    """

    difference: float
    noise: float | None
    problem: str = ""
    gate: Gate = SINGLE

    @property
    def tolerance(self) -> float:
        return self.gate.cap if self.noise is None else self.gate.bound(self.noise)

    @property
    def passed(self) -> bool:
        return not self.problem and self.difference <= self.tolerance

    @property
    def reason(self) -> str:
        """Why the proof failed, in words."""
        if self.problem:
            return self.problem
        noise = "unknown" if self.noise is None else f"{self.noise:.1e}"
        return f"difference {self.difference:.1e} exceeds {self.tolerance:.1e} (noise {noise})"


def distance(values: Sequence[Array], references: Sequence[Array]) -> float:
    """The largest relative L2 distance of any pair, in float64; NaN where anything is not finite."""
    found = [relative_l2(*pair) for pair in zip(values, references, strict=True)]
    return math.nan if any(map(math.isnan, found)) else max(found, default=0.0)


def run(function: Compute, inputs: Sequence[Array], layers: Sequence[KerasLayer]) -> list[Array]:
    """`function(*inputs)` as arrays; compiled by XLA where TensorFlow has no kernel for one of `layers`."""
    import tensorflow as tf
    from keras import ops, tree

    tensors = [ops.convert_to_tensor(value) for value in inputs]
    if any(needs_xla(layer) for layer in layers):
        compiled = tf.function(function, jit_compile=True, autograph=False)
        return [as_array(value) for value in tree.flatten(compiled(*tensors))]
    with inlined_functions():  # otherwise Keras compiles each grouped convolution with XLA, which takes 0.3 s
        return [as_array(value) for value in tree.flatten(function(*tensors))]


def prove(graph: Graph, replacement: Replacement, seed: int) -> Proof:
    """Compare `replacement` with what it replaces, on one input per source, normally distributed from `seed`."""
    old_layers = [node.operation for node in replacement.nodes if is_layer(node.operation)]
    gate = gate_for(old_layers)
    generator = np.random.default_rng(seed)
    inputs = [_sample(generator, tensor, old_layers) for tensor in replacement.sources]

    def old(call: Callable[[KerasOperation], Compute]) -> Compute:
        def compute(*values: Tensor) -> TensorTree:
            feeds: dict[int, Tensor] = {id(t): value for t, value in zip(replacement.sources, values, strict=True)}
            if replacement.meant is not None:
                feeds.update(replacement.meant(values[0]))
            return evaluate(graph, feeds, [replacement.target], call)

        return compute

    try:
        before = run(old(lambda operation: operation), inputs, old_layers)
        after = run(replacement.call, inputs, [*old_layers, *replacement.layers])
    except call_errors() as error:
        return Proof(np.inf, None, f"the proof could not be run: {first_line(error)}")
    if after[0].shape != before[0].shape:
        return Proof(np.inf, None, f"the new part returns {after[0].shape}, the old one {before[0].shape}")
    if not np.any(before[0]):
        return Proof(np.inf, None, "the old part returns nothing but zeros, so nothing can be proven")
    difference = distance(after, before)
    if difference <= gate.floor:
        return Proof(difference, 0.0, gate=gate)  # within any tolerance, so the noise is not measured
    try:
        exact = run(old(in_float64), [float64(value) for value in inputs], old_layers)
    except call_errors():
        return Proof(difference, None, gate=gate)
    return Proof(difference, distance(before, exact), gate=gate)


def gate_for(layers: Sequence[KerasLayer]) -> Gate:
    """The constants of the tolerance for the precision that `layers` compute in."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)
    return HALF if half else SINGLE


def _sample(generator: np.random.Generator, tensor: KerasTensor, layers: Sequence[KerasLayer]) -> Array:
    """A normal sample for `tensor`, large enough for the kernels of `layers`."""
    reach = 1
    axis = -1
    for layer in layers:
        kernel = getattr(layer, "kernel_size", ())
        dilation = getattr(layer, "dilation_rate", 1)
        dilation = dilation if isinstance(dilation, tuple) else (dilation,) * len(kernel)
        reach = max([reach, *((k - 1) * d + 4 for k, d in zip(kernel, dilation, strict=True))])
        axis = channel_axis(layer.data_format) if kernel else axis
    shape = sizes(tensor.shape, axis, at_least=reach)
    return generator.standard_normal(shape).astype(tensor.dtype)


def in_float64(operation: KerasOperation) -> Compute:
    """A function that computes `operation` in float64 with its current weights.

    Plain convolutions are called with their arrays converted to float64, nested models call by call, and a user's
    layers without weights unchanged; other layers are rebuilt in float64. Raises what building a layer may raise.
    """
    from keras import layers

    if not is_layer(operation):
        return operation  # type: ignore[no-any-return]
    plain = (layers.Lambda, layers.Concatenate, layers.Activation)
    if is_weightless(operation) and (type(operation) in plain or not type(operation).__module__.startswith("keras.")):
        return operation.call  # type: ignore[no-any-return]
    if type(operation) in (layers.Conv1D, layers.Conv2D, layers.Conv3D) and operation.padding != "causal":
        return _convolution(operation)
    if is_functional(operation):
        return _nested(operation)
    return _widened(operation)


def _widened(layer: KerasLayer) -> Compute:
    """A copy of `layer` in float64, built for the shape that it is called on."""

    def compute(*args: TensorTree, **kwargs: TensorTree) -> TensorTree:
        weights = [float64(array(variable)) for variable in layer.weights]
        several = isinstance(args[0], list | tuple)
        shape = [tuple(value.shape) for value in args[0]] if several else tuple(args[0].shape)
        return renew(layer, shape, {"dtype": "float64"}, weights)(*args, **kwargs)

    return compute


def _nested(model: KerasModel) -> Compute:
    """The computation of a nested functional model in float64."""

    def compute(inputs: TensorTree, **_: object) -> TensorTree:
        from keras import tree

        graph = Graph(model)
        feeds = {id(tensor): value for tensor, value in zip(graph.inputs, tree.flatten(inputs), strict=True)}
        return tree.pack_sequence_as(graph.structure[1], evaluate(graph, feeds, graph.outputs, in_float64))

    return compute


def _convolution(layer: KerasLayer) -> Compute:
    """The computation of `Conv.call` with a float64 kernel and bias."""

    def compute(inputs: Tensor) -> Tensor:
        from keras import ops

        outputs = layer.convolution_op(inputs, ops.cast(layer.kernel, "float64"))
        if layer.use_bias:
            shape = [1] * (layer.rank + 2)
            shape[channel_axis(layer.data_format)] = layer.filters
            outputs = outputs + ops.reshape(ops.cast(layer.bias, "float64"), shape)
        return outputs if layer.activation is None else layer.activation(outputs)

    return compute
