"""tf2onnx's graph optimizers, without those for quantized graphs and loops, and with a faster search for Transposes.

tf2onnx restarts at the graph's first node after each step of a Transpose, and sorts the graph again for each kernel
that it reshapes. Which Transpose may pass which operator is decided by tf2onnx's own handlers; only the order of the
visits is different here: each Transpose moves as far as possible before the next one is visited.
"""

from __future__ import annotations

from collections.abc import Callable

from converter.core.foreign import Tf2OnnxGraph, Tf2OnnxNode, Tf2OnnxOptimizer

_IDLE = {"const_dequantize_optimizer", "q_dq_optimizer", "loop_optimizer"}
"""They search for operators that no graph of cnnexport has, and rebuild the graph each time."""


_CHANNELS_LAST = ([0, 2, 3, 1], [0, 2, 3, 4, 1])

Factory = Callable[[], Tf2OnnxOptimizer]


def optimizers() -> dict[str, Factory]:
    """The argument `optimizers` of `tf2onnx.optimizer.optimize_graph`: its own in its order, with the faster search."""
    from tf2onnx.optimizer import _get_optimizers

    known = {name: each for name, each in _get_optimizers().items() if name not in _IDLE}
    known["optimize_transpose"] = _transpose_optimizer()
    return known


def _transpose_optimizer() -> Factory:
    from tf2onnx.optimizer import transpose_optimizer as theirs

    class EachAsFarAsItGoes(theirs.TransposeOptimizer):  # type: ignore[misc]
        """The same handlers, called in another order."""

        def _optimize_at_current_graph_level(self, graph: Tf2OnnxGraph) -> Tf2OnnxGraph:
            self._g = graph
            self.pre_optimize_action()
            while self._pass(graph):
                self.graph_been_opt = True
            self.merge_duplicated_transposes()
            self.post_optimize_action()
            return graph

        def _pass(self, graph: Tf2OnnxGraph) -> bool:
            """Visit every Transpose once; returns whether any of them was moved or removed."""
            changed = False
            self._force_stop: dict[str, int] = {}
            for name in [node.name for node in graph.get_nodes() if theirs.is_transpose(node)]:
                while (node := _transpose(graph, name)) is not None and self._handle_nhwc_tranpose(node):
                    changed = True
                node = _transpose(graph, name)
                if node is None:
                    changed = True  # merged with another, or copied into the branches that read it
                elif theirs.is_useless_transpose(node):
                    self._remove_useless_tranpose(node)
                    changed = True
            return changed

        def _add_handler(self, trans: Tf2OnnxNode, node: Tf2OnnxNode) -> bool:
            """A scalar added to all channels, as in a hard sigmoid, is not a Conv's bias; tf2onnx's handler fails."""
            added = node.inputs[1]
            if added.is_const() and added.get_tensor_value(as_list=False).ndim == 0:
                return bool(self._handle_node_having_branches(trans, node))
            return bool(super()._add_handler(trans, node))

        def _split_handler(self, trans: Tf2OnnxNode, node: Tf2OnnxNode) -> bool:
            """A Split into several pieces is passed too: the Transpose goes into each branch that reads one."""
            graph, perm = self._g, trans.get_attr_value("perm")
            single = len(graph.find_output_consumers(trans.output[0])) == 1
            if len(node.output) == 1:
                return bool(super()._split_handler(trans, node))
            if perm not in _CHANNELS_LAST or not single or set(node.output) & set(graph.outputs):
                return False
            shapes = {name: graph.get_shape(name) for name in node.output}
            node.set_attr("axis", perm[node.get_attr_value("axis", 0) % len(perm)])
            graph.replace_input(node, node.input[0], trans.input[0], 0)
            for name, shape in shapes.items():
                consumers = graph.find_output_consumers(name)
                back = graph.make_node("Transpose", [name], attr={"perm": perm}, dtypes=[graph.get_dtype(name)],
                                       shapes=[shape])  # fmt: skip
                for consumer in consumers:
                    graph.replace_input(consumer, name, back.output[0])
                if shape is not None:
                    graph.set_shape(name, [shape[perm.index(axis)] for axis in range(len(perm))])
            graph.remove_node(trans.name)
            return True

        def pre_optimize_action(self) -> None:
            """Reshape constant kernels first, so that a Transpose can reach the Conv that reads them."""
            graph = self._g
            self._output_names = [graph.get_node_by_output(name).name for name in graph.outputs]
            found = [
                node
                for node in graph.get_nodes()
                if node.type == "Reshape" and node.inputs[0].is_const() and node.inputs[1].is_const()
            ]
            for node in found:
                value = node.inputs[0].get_tensor_value(as_list=False)
                sizes = node.inputs[1].get_tensor_value(as_list=True)
                # 0 keeps the size of the same axis: https://onnx.ai/onnx/operators/onnx__Reshape.html
                shape = [value.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
                graph.remove_node(node.name)
                graph.make_const(node.output[0], value.reshape(shape))
            if found:
                graph.topological_sort(graph.get_nodes())

    def _transpose(graph: Tf2OnnxGraph, name: str) -> Tf2OnnxNode | None:
        node = graph.get_node_by_name(name)
        return node if node is not None and theirs.is_transpose(node) else None

    return EachAsFarAsItGoes
