"""A functional model made again from its graph, with some tensors computed in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converter.core.foreign import KerasModel, KerasOperation, Tensor
from converter.rewrites.graph import Graph, arguments, upstream
from converter.rewrites.rule import Replacement


def rebuild(graph: Graph, replacements: Sequence[Replacement], operations: Mapping[int, KerasOperation]) -> KerasModel:
    """A functional model like that of `graph`, with `replacements` made.

    `operations` maps the id of an operation to the one that replaces it. All other layers are the same objects and
    share their weights with the old model, which keeps working; input layers are kept too. What is upstream of the
    first change is not called again.
    """
    import keras
    from keras import tree

    by_target = {id(replacement.target): replacement for replacement in replacements}
    values: dict[int, Tensor] = {id(tensor): tensor for tensor in graph.inputs}
    sources = {target: replacement.sources for target, replacement in by_target.items()}
    needed = upstream(graph, graph.outputs, (), sources)
    for node in graph.nodes:
        if id(node) not in needed or node.is_input:
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
