"""Runs a traced graph in TensorFlow: in float32 or in float64, with weights replaced, and with layers' ends watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from converter.core.data import Array, Arrays, Traced
from converter.core.errors import InputError
from converter.core.foreign import GraphDef, NodeDef, Session, Tensor, TfOperation, TfRunOptions
from converter.tracing import layer_ends
from converter.tracing.equivalents.images import EXACT
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.lowering import lowered
from converter.tracing.memory import stopped_when_full
from converter.tracing.naming import described_layer
from converter.tracing.nodes import node_of
from converter.tracing.pieces import split_products
from converter.tracing.signature import Signature
from converter.tracing.widening import become_cast, widened

LIMIT = 900.0
"""Seconds after which a batch is given up: a loop that does not end for these inputs would never return."""

LONG_SUM = 64
"""Number of elements from which the order of a sum matters.

onnxruntime adds the 256 of a pooled 16 x 16 map one by one, with three times TensorFlow's rounding error.
"""


class CannotRunError(Exception):
    """TensorFlow has no kernel for an operator of the graph in this precision."""


@dataclass(frozen=True)
class Runner:
    """A graph in a session.

    `feeds` are the weights by the tensor to feed, `stored` these tensors by weight, `fetches` the outputs' tensors and
    `extra` those of `layer_ends.watch`. `failed` is why TensorFlow does not accept the graph.
    """

    session: Session
    signature: Signature
    feeds: Mapping[str, Array]
    stored: Mapping[str, str]
    fetches: Sequence[str]
    extra: Sequence[Tensor]
    double: bool
    failed: Exception | None
    layers: Mapping[str, str]

    def __call__(
        self, inputs: Arrays, changed: Mapping[str, Array] | None = None, watch: bool = False
    ) -> tuple[dict[str, Array], list[Array]]:
        """The outputs by name, and the values of `layer_ends.watch` if asked for.

        `inputs` are by name, shape (samples, ...), and one batch; a fixed batch size is filled with repeated samples.
        `changed` replaces weights by their names in the graph. Raises CannotRunError, and InputError after `LIMIT`
        seconds; no other error of TensorFlow is caught.
        """
        if self.failed is not None:
            raise CannotRunError(str(self.failed)) from self.failed
        given = {f"{name}:0": array for name, array in inputs.items()}
        if self.double:
            given = {name: _doubled(array) for name, array in given.items()}
        replaced = {self.stored[name]: array for name, array in (changed or {}).items()}
        count, fixed = len(next(iter(given.values()))), self.signature.inputs[0].shape[0]
        pieces: list[list[Array]] = []
        watched: list[Array] = []
        for batch in _batches(given, fixed):
            wanted = [*self.fetches, *self.extra] if watch and not pieces else [*self.fetches]
            with stopped_when_full(self.session, bool(self._loops())) as full:
                try:
                    fetched = self.session.run(wanted, {**self.feeds, **replaced, **batch}, options=_limited())
                except _cannot() as error:
                    raise CannotRunError(str(error)) from error
                except _too_late() as error:
                    taken = f"{full[0] / 1e9:.0f} GB of memory" if full else f"{LIMIT:.0f} s"
                    raise InputError(self._endless(taken)) from error
            watched = watched or fetched[len(self.fetches) :]
            pieces.append(fetched[: len(self.fetches)])
        joined = (np.concatenate(each)[:count] if fixed else each[0] for each in zip(*pieces, strict=True))
        return {spec.name: array for spec, array in zip(self.signature.outputs, joined, strict=True)}, watched

    def _loops(self) -> list[str]:
        return [each.name for each in self.session.graph.get_operations() if each.type in ("StatelessWhile", "While")]

    def _endless(self, taken: str) -> str:
        place = described_layer(self._loops()[0], self.layers) if self._loops() else "the model"
        return f"{place}: one batch took more than {taken}\nmake sure that its loops end for any valid input"

    def with_changed(self, inputs: Arrays, tensor: str, change: Callable[[Array], Array]) -> dict[str, Array]:
        """The outputs by name if a tensor of the graph had other values: what `change` makes of its own.

        `inputs` are as for a call, and one batch. Raises what a call raises.
        """
        if self.failed is not None:
            raise CannotRunError(str(self.failed)) from self.failed
        tensors = {f"{name}:0": array for name, array in inputs.items()}
        given = next(_batches(tensors, self.signature.inputs[0].shape[0]))
        values = self.session.run(tensor, {**self.feeds, **given})
        fetched = self.session.run([*self.fetches], {**self.feeds, **given, tensor: change(values)})
        count = len(next(iter(inputs.values())))
        return {spec.name: array[:count] for spec, array in zip(self.signature.outputs, fetched, strict=True)}

    def summed(self, inputs: Arrays) -> dict[str, Array]:
        """The outputs with every long mean and sum computed one element after another, as some runtimes do.

        The rounding error of a sum depends on its order: over the positions of a large image it is ten times that of
        TensorFlow, which adds halves. Empty if there is no such operator, and for a fixed batch size.
        """
        if self.failed is not None or self.signature.inputs[0].shape[0]:
            return {}
        found = [each for each in map(_reduction, self.session.graph.get_operations()) if each is not None]
        given = {**self.feeds, **{f"{name}:0": array for name, array in inputs.items()}}
        values = self.session.run([operation.inputs[0] for operation, *_ in found], given) if found else []
        replaced = {}
        for (operation, axes, kept), value in zip(found, values, strict=True):
            places = tuple(axis % value.ndim for axis in axes)
            length = int(np.prod([value.shape[axis] for axis in places], dtype=np.int64))
            if value.dtype == np.float32 and length >= LONG_SUM:
                total = _one_after_another(value, places, kept)
                replaced[operation.outputs[0]] = total / np.float32(length) if operation.type == "Mean" else total
        if not replaced:
            return {}
        outputs = self.session.run([*self.fetches], {**given, **replaced})
        return {spec.name: array for spec, array in zip(self.signature.outputs, outputs, strict=True)}


@contextmanager
def running(
    traced: Traced, signature: Signature, ends: Sequence[LayerEnd] = (), double: bool = False
) -> Iterator[Runner]:
    """Within the context, `traced` (unfolded) can be run; with `double` in float64, with the weights of float32."""
    import tensorflow as tf

    graph_def, stored = traced.graph_def, {name: f"{name}:0" for name in traced.weights}
    if double:
        graph_def = widened(lowered(graph_def, EXACT), {"float32": "float64"})
        stored = _widened_weights(graph_def, traced.weights)
    feeds = {stored[name]: array for name, array in traced.weights.items()}
    config = tf.compat.v1.ConfigProto()
    config.graph_options.optimizer_options.global_jit_level = tf.compat.v1.OptimizerOptions.OFF
    # operator by operator: rewriting the graph takes as long as an inference, for each set of fetches, and a fused
    # convolution has no kernel for groups
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    graph, failed, extra = tf.Graph(), None, []
    try:
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
        extra = layer_ends.watch(graph, ends, first=double)
    except _cannot() as error:
        failed = error
    fetches = [f"{spec.name}:0" for spec in signature.outputs]
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        yield Runner(session, signature, feeds, stored, fetches, extra, double, failed, traced.layers)
    finally:
        session.close()


def _reduction(operation: TfOperation) -> tuple[TfOperation, tuple[int, ...], bool] | None:
    """A mean or a sum over constant axes: the operation, the axes, and whether they are kept with size 1."""
    import tensorflow as tf

    if operation.type not in ("Mean", "Sum") or operation.inputs[0].dtype != tf.float32:
        return None
    axes = tf.get_static_value(operation.inputs[1])
    return None if axes is None else (operation, tuple(np.atleast_1d(axes).tolist()), operation.get_attr("keep_dims"))


def _one_after_another(value: Array, axes: tuple[int, ...], kept: bool) -> Array:
    """The sum over `axes` in float32, in the order of the elements."""
    others = [axis for axis in range(value.ndim) if axis not in axes]
    flat = value.transpose(*others, *axes).reshape(*(value.shape[axis] for axis in others), -1)
    total = np.cumsum(flat, axis=-1, dtype=np.float32)[..., -1]
    return np.expand_dims(total, axes) if kept else total


def _limited() -> TfRunOptions:
    import tensorflow as tf

    return tf.compat.v1.RunOptions(timeout_in_ms=int(1000 * LIMIT))


def _too_late() -> tuple[type[Exception], ...]:
    import tensorflow as tf

    return tf.errors.DeadlineExceededError, tf.errors.CancelledError


def _cannot() -> tuple[type[Exception], ...]:
    """What TensorFlow raises for a graph, or a precision, that it has no kernels for."""
    import tensorflow as tf

    return ValueError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError


def _doubled(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _batches(inputs: Arrays, fixed: int | None) -> Iterator[dict[str, Array]]:
    """`inputs` as they are, or in batches of `fixed` samples, the last one filled with repeated samples."""
    count = len(next(iter(inputs.values())))
    if not fixed:
        yield dict(inputs)
        return
    for start in range(0, count, fixed):
        index = np.arange(start, start + fixed) % count
        yield {name: array[index] for name, array in inputs.items()}


def _widened_weights(graph_def: GraphDef, weights: Arrays) -> dict[str, str]:
    """Add a Cast after each float32 weight of the float64 graph; returns the tensor to feed for each weight.

    So the weights stay float32 in memory: a float64 copy of all of them would take twice the model's size. A weight
    that one operator reads is cast when the other inputs of that operator are there, not before; nothing waits for it.
    """
    from tensorflow.core.framework import types_pb2

    tensors = {name: f"{name}:0" for name in weights}
    readers: dict[str, list[NodeDef]] = {}
    for node in graph_def.node:
        node.input[:] = [name for name in node.input if name.removeprefix("^") not in weights or name[0] != "^"]
        for name in dict.fromkeys(map(node_of, node.input)):
            readers.setdefault(name, []).append(node)
    for node in list(graph_def.node):
        if node.name not in weights or weights[node.name].dtype != np.float32:
            continue
        stored = graph_def.node.add()
        stored.CopyFrom(node)
        stored.name = f"{node.name}/float32"
        stored.attr["dtype"].type = types_pb2.DT_FLOAT
        tensors[node.name] = f"{stored.name}:0"
        become_cast(node, stored.name, "float32", "float64")
        if len(readers.get(node.name, ())) == 1:
            others = dict.fromkeys(map(node_of, readers[node.name][0].input))
            node.input.extend(f"^{other}" for other in others if other not in weights and other != node.name)
    split_products(
        graph_def, {name: node_of(tensor) for name, tensor in tensors.items() if name != tensor[:-2]}, weights
    )
    return tensors
