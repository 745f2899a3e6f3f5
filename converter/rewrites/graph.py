"""The node graph of a functional or Sequential Keras model: read it, evaluate parts of it, rebuild it.

A *node* is one call of a layer or of a `keras.ops` operation; a *tensor* is the KerasTensor between two of them.
Keras keeps both (it builds its own `Function` from them), but offers no public way to walk them: everything that
touches those attributes is in this module. Tensors are keyed by `id()`, since Keras compares them symbolically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Lookup = Callable[[Any], Any]
Call = Callable[..., list[Any]]


def is_functional(model: Any) -> bool:
    """Whether the calls inside `model` can be read: functional or built Sequential, `call` not overridden."""
    from keras import Sequential
    from keras.src.models.functional import Functional

    if isinstance(model, Sequential):
        return type(model).call is Sequential.call and getattr(model, "_functional", None) is not None
    return isinstance(model, Functional) and type(model).call is Functional.call


def why_opaque(model: Any) -> str:
    """The reason why the calls inside `model` cannot be read, "" where they can."""
    from keras import Sequential

    if is_functional(model):
        return ""
    if isinstance(model, Sequential) and type(model).call is Sequential.call:
        return "a Sequential that was never built: give it an Input layer or call it once"
    return f"{type(model).__name__} is a subclassed model: the connections of its layers cannot be read"


def is_tensor(value: Any) -> bool:
    """Whether `value` is a symbolic tensor."""
    from keras import KerasTensor

    return isinstance(value, KerasTensor)


def is_layer(operation: Any) -> bool:
    """Whether `operation` is a layer rather than a bare `keras.ops` operation."""
    from keras import Layer

    return isinstance(operation, Layer)


def is_weightless(operation: Any) -> bool:
    """Whether `operation` holds no variables: a bare operation, or a layer without weights."""
    return not is_layer(operation) or not operation.weights


class Graph:
    """The nodes of one model in an order in which they can be computed.

    `path` is the prefix for names in reports ("inner/" inside the nested model `inner`). `notes` is room for what
    rules find out about the model; it may be handed from one graph of a model to the next. Raises ValueError for a
    model whose calls cannot be read.
    """

    def __init__(self, model: Any, path: str = "", notes: dict[str, Any] | None = None) -> None:
        reason = why_opaque(model)
        if reason:
            raise ValueError(reason)
        network = getattr(model, "_functional", None) or model
        self.model = model
        self.path = path
        self.notes: dict[str, Any] = {} if notes is None else notes
        self.structure = (network.input, network.output)
        self.inputs: tuple[Any, ...] = tuple(network.inputs)
        self.outputs: tuple[Any, ...] = tuple(network.outputs)
        by_depth = network._nodes_by_depth
        self.nodes: tuple[Any, ...] = tuple(
            node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]
        )
        self.names = {node.operation.name for node in self.nodes}
        self._producers = {id(tensor): node for node in self.nodes for tensor in node.outputs}
        self._consumers: dict[int, list[Any]] = {}
        self._calls: dict[int, int] = {}
        for node in self.nodes:
            self._calls[id(node.operation)] = self._calls.get(id(node.operation), 0) + 1
            for tensor in node.input_tensors:
                self._consumers.setdefault(id(tensor), []).append(node)
        self._output_ids = {id(tensor) for tensor in self.outputs}

    def producer(self, tensor: Any) -> Any:
        """The node that makes `tensor`."""
        return self._producers[id(tensor)]

    def consumers(self, tensor: Any) -> list[Any]:
        """The nodes that read `tensor`, one entry for every time that they do."""
        return self._consumers.get(id(tensor), [])

    def calls(self, operation: Any) -> int:
        """How many nodes of this graph call `operation`: more than one for a shared layer."""
        return self._calls.get(id(operation), 0)

    def is_output(self, tensor: Any) -> bool:
        """Whether `tensor` is an output of the model."""
        return id(tensor) in self._output_ids

    def private(self, tensor: Any) -> bool:
        """Whether `tensor` has one reader and is no output, so that it may vanish."""
        return len(self.consumers(tensor)) == 1 and not self.is_output(tensor)

    def new_name(self, wanted: str, target: Any, leaving: Sequence[Any]) -> str:
        """A name for what will make `target`, unused among the nodes that stay (`leaving` are nodes that go).

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


def arguments(node: Any, lookup: Lookup) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with every tensor replaced by `lookup(tensor)`."""
    from keras import tree

    args, kwargs = node.arguments.args, node.arguments.kwargs
    if (
        len(args) == 1 and not kwargs and is_tensor(args[0])
    ):  # nearly always; walking a structure takes 50 times as long
        return (lookup(args[0]),), {}
    given = (node.arguments.args, node.arguments.kwargs)
    args, kwargs = tree.map_structure(lambda value: lookup(value) if is_tensor(value) else value, given)
    return tuple(args), dict(kwargs)


def evaluate(
    graph: Graph, feeds: Mapping[int, Any], targets: Sequence[Any], call: Callable[[Any], Callable[..., Any]]
) -> list[Any]:
    """The values of `targets`, given values for other tensors (`feeds`, by id).

    `call(operation)` is what stands for an operation; nothing upstream of a fed tensor is computed. Raises KeyError
    where a target depends on a tensor that is neither fed nor computable.
    """
    from keras import tree

    values = dict(feeds)
    wanted = _upstream(graph, targets, set(feeds), {})
    for node in graph.nodes:
        if id(node) not in wanted:
            continue
        args, kwargs = arguments(node, lambda tensor: values[id(tensor)])
        outputs = tree.flatten(call(node.operation)(*args, **kwargs))
        for tensor, value in zip(node.outputs, outputs, strict=True):
            values.setdefault(id(tensor), value)
    return [values[id(tensor)] for tensor in targets]


def rebuild(graph: Graph, replacements: Sequence[Any], operations: Mapping[int, Any]) -> Any:
    """A functional model like the one of `graph`, with some tensors made otherwise.

    `replacements` carry `sources`, `target` and `call`: the tensor `target` becomes `call(*sources)`. `operations`
    maps the id of an operation to the one that takes its place. Every other layer is the same object, its weights
    are shared with the old model, which keeps working; input layers stay as well. What lies upstream of the first
    change is not even called again.
    """
    import keras
    from keras import tree

    by_target = {id(replacement.target): replacement for replacement in replacements}
    values: dict[int, Any] = {id(tensor): tensor for tensor in graph.inputs}
    wanted = _upstream(graph, graph.outputs, set(), by_target)
    for node in graph.nodes:
        if id(node) not in wanted or node.is_input:
            continue
        replacement = by_target.get(id(node.outputs[0]))
        if replacement is not None:
            values[id(replacement.target)] = replacement.call(*(values[id(tensor)] for tensor in replacement.sources))
            continue
        operation = operations.get(id(node.operation), node.operation)
        same = operation is node.operation and all(values[id(tensor)] is tensor for tensor in node.input_tensors)
        if same:
            outputs = list(node.outputs)
        else:
            args, kwargs = arguments(node, lambda tensor: values[id(tensor)])
            outputs = tree.flatten(operation(*args, **kwargs))
        values.update({id(old): new for old, new in zip(node.outputs, outputs, strict=True)})
    inputs, outputs_structure = graph.structure
    outputs_structure = tree.map_structure(lambda tensor: values[id(tensor)], outputs_structure)
    return keras.Model(inputs, outputs_structure, name=graph.model.name)


def _upstream(graph: Graph, targets: Sequence[Any], known: set[int], replaced: Mapping[int, Any]) -> set[int]:
    """The ids of the nodes that have to run for `targets`, where the tensors `known` need none."""
    wanted: set[int] = set()
    stack = list(targets)
    while stack:
        tensor = stack.pop()
        if id(tensor) in known:
            continue
        node = graph.producer(tensor)
        if id(node) in wanted:
            continue
        wanted.add(id(node))
        replacement = replaced.get(id(tensor))
        stack.extend(replacement.sources if replacement is not None else node.input_tensors)
    return wanted
