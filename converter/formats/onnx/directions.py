"""Two recurrent operators over the same sequence, one of them reversed, as one operator with both directions.

It is what Bidirectional is, and runtimes compute the directions side by side. OpenVINO computes the reversed one of two
separate operators wrongly (2026.2, several samples of a fixed length).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from converter.core.foreign import OnnxAttribute, OnnxGraph, OnnxNode
from converter.formats.onnx.order import in_order

_OPERATORS = {"LSTM", "GRU", "RNN"}
_JOINED = ("activations", "activation_alpha", "activation_beta")


def join_directions(graph: OnnxGraph) -> None:
    """Join such pairs, in place. Only their Squeeze nodes may read them, as this package writes them."""
    while True:
        readers: dict[str, list[OnnxNode]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        pair = next(_pairs(graph, readers), None)
        if pair is None:
            return
        _join(graph, readers, *pair)
        in_order(graph)


def _pairs(graph: OnnxGraph, readers: dict[str, list[OnnxNode]]) -> Iterator[tuple[OnnxNode, OnnxNode]]:
    waiting: dict[bytes, OnnxNode] = {}
    for node in graph.node:
        squeezed = all(each.op_type == "Squeeze" for name in node.output for each in readers.get(name, []))
        if node.op_type not in _OPERATORS or not squeezed:
            continue
        direction = _attributes(node)["direction"].s
        rest = [each.SerializeToString() for name, each in sorted(_attributes(node).items()) if name != "direction"]
        present = bytes(bool(name) for name in node.input[3:])
        lengths = node.input[4] if len(node.input) > 4 else ""
        key = b"|".join([node.op_type.encode(), node.input[0].encode(), lengths.encode(), present, *rest])
        other = waiting.get(key + (b"reverse" if direction == b"forward" else b"forward"))
        if other is None:
            waiting[key + direction] = node
        else:
            del waiting[key + _attributes(other)["direction"].s]
            yield (node, other) if direction == b"forward" else (other, node)  # forward first


def _join(graph: OnnxGraph, readers: dict[str, list[OnnxNode]], forward: OnnxNode, reverse: OnnxNode) -> None:
    from onnx import helper, numpy_helper

    made: list[OnnxNode] = []
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def joined(index: int) -> str:
        if len(forward.input) <= index or not forward.input[index]:
            return ""
        name = f"{forward.name}/both/{index}"
        known = [constants.get(node.input[index]) for node in (forward, reverse)]
        if all(known):
            whole = np.concatenate([numpy_helper.to_array(tensor) for tensor in known])
            graph.initializer.append(numpy_helper.from_array(whole, name))
            return name
        made.append(helper.make_node("Concat", [forward.input[index], reverse.input[index]], [name], name, axis=0))
        return name

    inputs = [forward.input[0], *(joined(index) for index in (1, 2, 3)), *forward.input[4:5]]
    inputs += [joined(index) for index in range(5, len(forward.input))]
    outputs = [f"{name}/both" if name else "" for name in forward.output]
    both = helper.make_node(forward.op_type, inputs, outputs, name=f"{forward.name}/both")
    for attribute in forward.attribute:
        copied = both.attribute.add()
        copied.CopyFrom(attribute)
        if attribute.name == "direction":
            copied.s = b"bidirectional"
        elif attribute.name in _JOINED:
            copied.strings.extend(attribute.strings)
            copied.floats.extend(attribute.floats)
    made.append(both)
    for index, node in enumerate((forward, reverse)):
        constant = f"{node.name}/direction"
        graph.initializer.append(numpy_helper.from_array(np.array(index, np.int64), constant))
        for source, whole in zip(node.output, outputs, strict=True):
            for squeeze in readers.get(source, []):
                axis = 1 if source == node.output[0] else 0
                squeeze.op_type, squeeze.input[:] = "Gather", [whole, constant]
                squeeze.attribute.append(helper.make_attribute("axis", axis))
    names = {forward.name, reverse.name}
    kept = [type(node).FromString(node.SerializeToString()) for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend([*kept, *made])


def _attributes(node: OnnxNode) -> dict[str, OnnxAttribute]:
    return {attribute.name: attribute for attribute in node.attribute}
