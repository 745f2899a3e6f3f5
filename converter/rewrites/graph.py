"""The node graph of a functional or Sequential Keras model: how to read it and how to evaluate parts of it.

A *node* is one call of a layer or of a `keras.ops` operation; a *tensor* is the KerasTensor between two of them. Keras
keeps both, but offers no public way to walk over them: all code that uses those attributes is in this module. Tensors
are keyed by `id()`, since Keras compares them symbolically. `converter.rewrites.rebuild` makes a model again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.core.data import Array
from converter.core.foreign import KerasModel, KerasNode, KerasOperation, KerasTensor, Tensor, TensorTree

if TYPE_CHECKING:  # it imports this module
    from converter.rewrites.branches import Branches

Compute = Callable[..., TensorTree]
"""What computes an operation: the operation itself, or a function that stands in for it."""

Values = Mapping[int, Tensor]
"""Concrete or symbolic values by the `id()` of the tensor that they are for."""


@dataclass
class Notes:
    """What has been found out about a model, so that it is measured once: see `branches.find` and `probe`.

    `ramps` are numbered inputs by tensor id and channel axis, as an array and as a tensor; `slices` the outputs of a
    call for such an input, by node id.
    """

    branches: tuple[Branches, ...] | None = None
    ramps: dict[tuple[int, int], tuple[Array, Tensor]] = field(default_factory=dict)
    slices: dict[int, list[Array]] = field(default_factory=dict)


def is_functional(model: KerasModel) -> bool:
    """Whether the calls inside `model` can be read: functional or built Sequential, `call` not overridden."""
    from keras import Sequential
    from keras.src.models.functional import Functional

    if isinstance(model, Sequential):
        return type(model).call is Sequential.call and getattr(model, "_functional", None) is not None
    return isinstance(model, Functional) and type(model).call is Functional.call


def why_opaque(model: KerasModel) -> str:
    """The reason why the calls inside `model` cannot be read, "" where they can."""
    from keras import Sequential

    if is_functional(model):
        return ""
    if isinstance(model, Sequential) and type(model).call is Sequential.call:
        return "a Sequential that was never built: give it an Input layer or call it once"
    return f"{type(model).__name__} is a subclassed model: the connections of its layers cannot be read"


def is_tensor(value: object) -> bool:
    """Whether `value` is a symbolic tensor."""
    import keras

    return isinstance(value, keras.KerasTensor)


def is_layer(operation: KerasOperation) -> bool:
    """Whether `operation` is a layer and not a bare `keras.ops` operation."""
    from keras import Layer

    return isinstance(operation, Layer)


def is_weightless(operation: KerasOperation) -> bool:
    """Whether `operation` has no variables: a bare operation, or a layer without weights."""
    return not is_layer(operation) or not operation.weights


class Graph:
    """The nodes of one model in an order in which they can be computed.

    `path` is the prefix for names in reports ("inner/" inside the nested model `inner`). `notes` may be passed on from
    one graph of a model to the next. Raises ValueError for a model whose calls cannot be read.
    """

    def __init__(self, model: KerasModel, path: str = "", notes: Notes | None = None) -> None:
        reason = why_opaque(model)
        if reason:
            raise ValueError(reason)
        network = getattr(model, "_functional", None) or model
        self.model = model
        self.path = path
        self.notes = notes or Notes()
        self.structure: tuple[TensorTree, TensorTree] = (network.input, network.output)
        self.inputs: tuple[KerasTensor, ...] = tuple(network.inputs)
        self.outputs: tuple[KerasTensor, ...] = tuple(network.outputs)
        by_depth = network._nodes_by_depth
        self.nodes: tuple[KerasNode, ...] = tuple(
            node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]
        )
        self.names = {node.operation.name for node in self.nodes}
        self._producers = {id(tensor): node for node in self.nodes for tensor in node.outputs}
        self._consumers: dict[int, list[KerasNode]] = {}
        self._calls: dict[int, int] = {}
        for node in self.nodes:
            self._calls[id(node.operation)] = self._calls.get(id(node.operation), 0) + 1
            for tensor in node.input_tensors:
                self._consumers.setdefault(id(tensor), []).append(node)
        self._output_ids = {id(tensor) for tensor in self.outputs}

    def producer(self, tensor: KerasTensor) -> KerasNode:
        """The node that makes `tensor`."""
        return self._producers[id(tensor)]

    def consumers(self, tensor: KerasTensor) -> list[KerasNode]:
        """The nodes that read `tensor`, once for each time that they read it."""
        return self._consumers.get(id(tensor), [])

    def calls(self, operation: KerasOperation) -> int:
        """How many nodes of this graph call `operation`: more than one for a shared layer."""
        return self._calls.get(id(operation), 0)

    def is_output(self, tensor: KerasTensor) -> bool:
        """Whether `tensor` is an output of the model."""
        return id(tensor) in self._output_ids

    def private(self, tensor: KerasTensor) -> bool:
        """Whether `tensor` has one reader and is not an output, so that a rewrite may remove it."""
        return len(self.consumers(tensor)) == 1 and not self.is_output(tensor)

    def pairs(self, first: Sequence[type], second: Sequence[type]) -> Iterator[tuple[KerasNode, KerasNode]]:
        """Every two calls of which the second reads what the first returns; the layers have exactly these classes."""
        for node in self.nodes:
            if type(node.operation) in second:
                before = self.producer(node.input_tensors[0])
                if type(before.operation) in first:
                    yield before, node

    def new_name(self, wanted: str, target: KerasTensor, leaving: Sequence[KerasNode]) -> str:
        """A name for the layer that will make `target`, unused among the nodes that stay (not among `leaving`).

        An output keeps its name: Keras names a model's outputs after the layers that make them.
        """
        taken = self.names - {node.operation.name for node in leaving}
        if self.is_output(target):
            wanted = self.producer(target).operation.name
        name, count = wanted, 1
        while name in taken:
            name, count = f"{wanted}_{count}", count + 1
        self.names.add(name)
        return name


def arguments(
    node: KerasNode, lookup: Callable[[KerasTensor], Tensor]
) -> tuple[tuple[TensorTree, ...], dict[str, TensorTree]]:
    """The arguments of a call with every tensor replaced by `lookup(tensor)`."""
    from keras import tree

    args, kwargs = node.arguments.args, node.arguments.kwargs
    # One tensor is by far the most frequent case, and walking over a structure takes 50 times as long.
    if len(args) == 1 and not kwargs and is_tensor(args[0]):
        return (lookup(args[0]),), {}
    given = (node.arguments.args, node.arguments.kwargs)
    args, kwargs = tree.map_structure(lambda value: lookup(value) if is_tensor(value) else value, given)
    return tuple(args), dict(kwargs)


def evaluate(
    graph: Graph, feeds: Values, targets: Sequence[KerasTensor], call: Callable[[KerasOperation], Compute]
) -> list[Tensor]:
    """The values of `targets`, given values for other tensors (`feeds`).

    `call(operation)` is what computes an operation; nothing upstream of a fed tensor is computed. Raises KeyError where
    a target depends on a tensor that is neither fed nor computable.
    """
    from keras import tree

    values = dict(feeds)
    needed = upstream(graph, targets, feeds.keys(), {})
    for node in graph.nodes:
        if id(node) not in needed:
            continue
        args, kwargs = arguments(node, lambda tensor: values[id(tensor)])
        outputs = tree.flatten(call(node.operation)(*args, **kwargs))
        for tensor, value in zip(node.outputs, outputs, strict=True):
            values.setdefault(id(tensor), value)
    return [values[id(tensor)] for tensor in targets]


def upstream(
    graph: Graph,
    targets: Sequence[KerasTensor],
    known: Collection[int],
    replaced: Mapping[int, Sequence[KerasTensor]],
) -> set[int]:
    """The ids of the nodes that `targets` depend on.

    Tensors whose id is in `known` depend on nothing; those in `replaced` depend on the tensors given there.
    """
    needed: set[int] = set()
    stack = list(targets)
    while stack:
        tensor = stack.pop()
        if id(tensor) in known:
            continue
        node = graph.producer(tensor)
        if id(node) in needed:
            continue
        needed.add(id(node))
        stack.extend(replaced.get(id(tensor), node.input_tensors))
    return needed


def call_errors() -> tuple[type[Exception], ...]:
    """What an operation may raise when it is called on concrete values."""
    import tensorflow as tf

    return (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, AttributeError, tf.errors.OpError)
