"""tf2onnx's graph optimizers without those for quantized graphs and loops, and with a quicker search for Transposes.

tf2onnx begins at the graph's first node again after each Transpose that it moved by one node, and sorts the graph again
for each kernel that it reshapes. Which Transpose may pass which operator, and how, is tf2onnx's knowledge and stays
there; only the order of the visits is ours: each Transpose is moved as far as it goes before the next one's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_IDLE = {"const_dequantize_optimizer", "q_dq_optimizer", "loop_optimizer"}
"""They look for operators that no graph of cnnexport has, at the price of rebuilding the graph each time."""


def optimizers() -> dict[str, Callable[[], Any]]:
    """What `tf2onnx.optimizer.optimize_graph` takes as `optimizers`: its own, in its order, with our search."""
    from tf2onnx.optimizer import _get_optimizers

    known = {name: each for name, each in _get_optimizers().items() if name not in _IDLE}
    known["optimize_transpose"] = _transpose_optimizer()
    return known


def _transpose_optimizer() -> Any:
    from tf2onnx.optimizer import transpose_optimizer as theirs

    class EachAsFarAsItGoes(theirs.TransposeOptimizer):  # type: ignore[misc]
        """The same handlers, visited in another order."""

        def _optimize_at_current_graph_level(self, graph: Any) -> Any:
            self._g = graph
            self.pre_optimize_action()
            while self._pass(graph):
                self.graph_been_opt = True
            self.merge_duplicated_transposes()
            self.post_optimize_action()
            return graph

        def _pass(self, graph: Any) -> bool:
            """Visit every Transpose once; whether any of them could be moved or removed."""
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

        def _add_handler(self, trans: Any, node: Any) -> bool:
            """A number added to every channel, as in a hard sigmoid, is no bias of a Conv; tf2onnx fails at it."""
            added = node.inputs[1]
            if added.is_const() and added.get_tensor_value(as_list=False).ndim == 0:
                return bool(self._handle_node_having_branches(trans, node))
            return bool(super()._add_handler(trans, node))

        def pre_optimize_action(self) -> None:
            """Reshape constant kernels now, so that a Transpose can meet the Conv behind them."""
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

    def _transpose(graph: Any, name: str) -> Any:
        node = graph.get_node_by_name(name)
        return node if node is not None and theirs.is_transpose(node) else None

    return EachAsFarAsItGoes
