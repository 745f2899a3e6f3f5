"""TensorFlow's own constant folding of a graph whose weights are Placeholders."""

from __future__ import annotations

from collections.abc import Collection

from converter.core.foreign import GraphDef, NodeDef

_HANDLE = "{}/cnnexport_handle"


def fold_constants(graph_def: GraphDef, kept: list[str], weights: Collection[str]) -> GraphDef:
    """`graph_def` after constant folding and pruning, which keep the nodes named in `kept`.

    For every Placeholder TensorFlow allocates and fills a tensor of its shape as an example of what is fed. So the
    `weights`, names of Placeholders, are reads of variables meanwhile: a second copy of all weights is never made.
    """
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    nodes = meta_graph.graph_def.node
    for node in [each for each in nodes if each.op == "Placeholder" and each.name in weights]:
        _become_read(node, nodes.add())
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers[:] = ["pruning", "constfold", "dependency", "pruning"]
    options.experimental_disable_folding_quantization_emulation = True
    options.min_graph_nodes = -1
    meta_graph.collection_def["train_op"].node_list.value.extend(kept)
    optimized = tf_optimizer.OptimizeGraph(config, meta_graph)
    shapes = {node.name: node.attr["shape"].shape for node in optimized.node if node.op == "VarHandleOp"}
    for node in optimized.node:  # the optimizer adds some
        node.input[:] = [name for name in node.input if not name.startswith("^")]
        handle = _HANDLE.format(node.name)
        if node.op == "ReadVariableOp" and node.input[:] == [handle]:
            node.op = "Placeholder"
            del node.input[:]
            node.attr["shape"].shape.CopyFrom(shapes[handle])
    remaining = [node for node in optimized.node if node.op != "VarHandleOp"]
    del optimized.node[:]
    optimized.node.extend(remaining)
    return optimized


def _become_read(node: NodeDef, handle: NodeDef) -> None:
    """Make a Placeholder the read of a variable, whose node is `handle`."""
    handle.name, handle.op = _HANDLE.format(node.name), "VarHandleOp"
    handle.attr["dtype"].type = node.attr["dtype"].type
    handle.attr["shape"].shape.CopyFrom(node.attr["shape"].shape)
    handle.attr["shared_name"].s = handle.name.encode()
    handle.attr["container"].s = b""
    node.op = "ReadVariableOp"
    node.input[:] = [handle.name]
    del node.attr["shape"]
