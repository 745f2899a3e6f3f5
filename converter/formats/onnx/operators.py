"""Operators of the trace that ONNX has not, as others that compute the same; before tf2onnx sees them.

A rule changes one node, of the graph or of a function, and may add nodes before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.core.foreign import GraphDef, NodeDef
from converter.tracing.functions import all_nodes


def replaced(graph_def: GraphDef) -> GraphDef:
    """`graph_def`, or if it has such operators a copy without them: 1 - Erf(x) for Erfc(x), as in an exact GELU."""
    if not any(node.op == "Erfc" for node in all_nodes(graph_def)):
        return graph_def
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    for node in list(result.node):
        if node.op == "Erfc":
            result.node.extend(_erfc(node, ("", "")))
    for function in result.library.function:
        for node in list(function.node_def):
            if node.op != "Erfc":
                continue
            function.node_def.extend(_erfc(node, (":output:0", ":y:0")))
            old, new = f"{node.name}:y:0", f"{node.name}:z:0"  # the names of the results of Erfc and of Sub
            for reader in function.node_def:
                reader.input[:] = [new if name == old else name for name in reader.input]
            for name, source in function.ret.items():
                function.ret[name] = new if source == old else source
    return result


def _erfc(node: NodeDef, results: Sequence[str]) -> list[NodeDef]:
    """Turn an Erfc into 1 - Erf; `results` are the endings of references to a constant and to an Erf."""
    import tensorflow as tf

    one = type(node)(op="Const", name=f"{node.name}/1")
    one.attr["dtype"].CopyFrom(node.attr["T"])
    one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, node.attr["T"].type, []))
    erf = type(node)(op="Erf", name=f"{node.name}/Erf", input=list(node.input))
    erf.attr["T"].CopyFrom(node.attr["T"])
    node.op, node.input[:] = "Sub", [one.name + results[0], erf.name + results[1]]
    return [one, erf]
