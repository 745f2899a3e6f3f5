"""Resize operators that yield the size that Keras asks for.

tf2onnx writes the ratio of the sizes as a float32, and a runtime multiplies and rounds down: 5 rows become 8 and not 9.
"""

from __future__ import annotations

import numpy as np

from converter.core.foreign import Tf2OnnxGraph, Tf2OnnxNode

_SCALES = 2
_NHWC = [0, 2, 3, 1]


def exact_sizes(graph: Tf2OnnxGraph) -> None:
    """Write the sizes, in place, wherever the ratios give others."""
    for node in list(graph.get_nodes()):
        if node.type != "Resize" or len(node.input) != _SCALES + 1 or not node.inputs[_SCALES].is_const():
            continue
        given, wanted = _shape_before(graph, node), _shape_after(graph, node)
        if given is None or wanted is None or -1 in (*given[1:3], *wanted[1:3]):
            continue
        ratios = (np.array(wanted[1:3]) / np.array(given[1:3])).astype(np.float32)
        if np.array_equal(np.floor(ratios.astype(np.float64) * given[1:3]), wanted[1:3]):
            continue
        shape = graph.make_node("Shape", [node.input[0]]).output[0]
        first = graph.make_node("Slice", [shape, _const(graph, [0]), _const(graph, [2])]).output[0]
        sizes = graph.make_node("Concat", [first, _const(graph, wanted[1:3])], attr={"axis": 0}).output[0]
        empty = graph.make_const(f"{node.name}/no_scales", np.array([], np.float32)).output[0]
        graph.replace_inputs(node, [node.input[0], node.input[1], empty, sizes])
        graph.set_shape(node.output[0], [wanted[0], wanted[3], *wanted[1:3]])


def _shape_before(graph: Tf2OnnxGraph, node: Tf2OnnxNode) -> list[int] | None:
    """The channels-last shape of what is resized."""
    transpose = node.inputs[0]
    return graph.get_shape(transpose.input[0]) if transpose.type == "Transpose" else None


def _shape_after(graph: Tf2OnnxGraph, node: Tf2OnnxNode) -> list[int] | None:
    """The channels-last shape of the result, which is that of TensorFlow."""
    for reader in graph.find_output_consumers(node.output[0]):
        if reader.type == "Transpose" and reader.get_attr_value("perm") == _NHWC:
            shape: list[int] | None = graph.get_shape(reader.output[0])
            return shape
    return None


def _const(graph: Tf2OnnxGraph, values: list[int]) -> str:
    from tf2onnx import utils

    return str(graph.make_const(utils.make_name("sizes"), np.array(values, np.int64)).output[0])
