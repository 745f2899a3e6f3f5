"""Operators of a trace that a format has not, as others that compute the same: one rule an operator.

A rule is a function of TensorFlow code. It gets the node and its inputs, with the shapes that TensorFlow infers and the
values that are constant, and returns the outputs. What it builds takes the place of the node, in the graph and in the
bodies of loops and conditions. The rules are in `.equivalents`; each format names the operators that it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from converter.core.foreign import FunctionDef, GraphDef, NodeDef, Tensor, TfGraph
from converter.tracing.functions import all_nodes
from converter.tracing.nodes import needed_by, node_of

Rule = Callable[..., "Tensor | Sequence[Tensor] | None"]
"""(node, *inputs) -> the one output, all outputs, or None: this node cannot be replaced"""

_ROUNDS = 4
"""Rules may use operators that other rules replace"""


def lowered(graph_def: GraphDef, rules: Mapping[str, Rule]) -> GraphDef:
    """`graph_def`, or if it has operators that `rules` name, a copy in which they are replaced."""
    declined: set[str] = set()
    for _ in range(_ROUNDS):
        if not any(node.op in rules and node.name not in declined for node in all_nodes(graph_def)):
            break
        graph_def = _round(graph_def, rules, declined)
    return graph_def


def output_shape(node: NodeDef) -> list[int]:
    """The shape of the first output of a node that a rule gets, -1 where it is unknown; empty without a known rank."""
    shapes = node.attr["_output_shapes"].list.shape
    return [] if not shapes or shapes[0].unknown_rank else [size.size for size in shapes[0].dim]


def _round(graph_def: GraphDef, rules: Mapping[str, Rule], declined: set[str]) -> GraphDef:
    import tensorflow as tf

    result = type(graph_def)()
    result.CopyFrom(graph_def)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        for function in result.library.function:
            if any(node.op in rules for node in function.node_def):
                _lower_function(function, rules, declined)
    _lower(result, graph, rules, declined)
    return result


def _lower(graph_def: GraphDef, graph: TfGraph, rules: Mapping[str, Rule], declined: set[str]) -> None:
    """Replace the nodes of `graph_def` itself, in place; `graph` is what TensorFlow imported, with its shapes."""
    for node in list(graph_def.node):
        if node.op in rules and node.name not in declined:
            operation = graph.get_operation_by_name(node.name)
            node.attr["_output_shapes"].list.shape.extend(each.shape.as_proto() for each in operation.outputs)
            added = _replacement(node, list(operation.inputs), rules[node.op])
            if added is None:
                declined.add(node.name)
                del node.attr["_output_shapes"]
            else:
                graph_def.node.extend(added)


def _replacement(node: NodeDef, inputs: Sequence[Tensor], rule: Rule) -> list[NodeDef] | None:
    """The nodes that `rule` adds; `node` itself becomes an Identity of the last ones, or stays where it declines."""
    import tensorflow as tf

    with tf.Graph().as_default() as scratch:
        given = {}
        for index, tensor in enumerate(inputs):
            value = tf.get_static_value(tensor)
            if value is None:
                given[f"input_{index}"] = tf.compat.v1.placeholder(tensor.dtype, tensor.shape, name=f"input_{index}")
            else:
                given[f"input_{index}"] = tf.constant(value, tensor.dtype, name=f"input_{index}")
        found = rule(node, *given.values())
        if found is None:
            return None
        outputs = list(found) if isinstance(found, (list, tuple)) else [found]
        # a copy of each: what a rule returns may be one of its inputs
        copies = [tf.identity(output, name=f"output_{index}") for index, output in enumerate(outputs)]
        definition = scratch.as_graph_def()
    needed = needed_by([copy.op.name for copy in copies], {each.name: each for each in definition.node})
    sources = dict(zip(given, node.input, strict=False))
    added = []
    for each in definition.node:
        if each.name not in needed or (each.name in sources and each.op == "Placeholder"):
            continue
        each.input[:] = [_reference(name, node.name, sources, definition) for name in each.input]
        each.name = f"{node.name}/{each.name}"
        added.append(each)
    del node.input[:]
    node.attr.clear()
    node.input.extend(f"{node.name}/{copy.op.name}" for copy in copies)
    if len(copies) == 1:
        node.op = "Identity"
        node.attr["T"].type = copies[0].dtype.as_datatype_enum
    else:
        node.op = "IdentityN"
        node.attr["T"].list.type.extend(copy.dtype.as_datatype_enum for copy in copies)
    return added


def _reference(name: str, scope: str, sources: Mapping[str, str], definition: GraphDef) -> str:
    """What a node of the scratch graph reads, as the graph names it."""
    inner = node_of(name)
    if inner in sources and any(each.name == inner and each.op == "Placeholder" for each in definition.node):
        return sources[inner]
    control = "^" if name.startswith("^") else ""
    return f"{control}{scope}/{name.removeprefix('^')}"


def _lower_function(function: FunctionDef, rules: Mapping[str, Rule], declined: set[str]) -> None:
    """Replace the nodes of `function`, in place; what it calls is in the default graph."""
    import tensorflow as tf
    from tensorflow.python.framework import function_def_to_graph, graph_to_function_def

    definition, flat = function_def_to_graph.function_def_to_graph_def(function)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    _lower(definition, graph, rules, declined)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        arguments = [graph.get_tensor_by_name(f"{each.name}:0") for each in function.signature.input_arg]
        names = [each.name for each in function.signature.output_arg]
        results = [
            graph.get_tensor_by_name(_tensor(flat.get(function.ret[name], function.ret[name]))) for name in names
        ]
        inner = [each for each in graph.get_operations() if each.type != "Placeholder"]
        changed = graph_to_function_def.graph_to_function_def(graph, inner, arguments, results, names)
    for name, attribute in function.attr.items():
        changed.attr[name].CopyFrom(attribute)
    changed.signature.name = function.signature.name
    if len(changed.signature.input_arg) == len(function.signature.input_arg):
        renamed = {
            new.name: old.name
            for new, old in zip(changed.signature.input_arg, function.signature.input_arg, strict=True)
        }
        for new in changed.signature.input_arg:
            new.name = renamed[new.name]
    function.CopyFrom(changed)


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
