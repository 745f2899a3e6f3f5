"""Node names in the traced graph: Keras's layer names, so that artifacts and errors speak of layers.

TensorFlow puts the model's name in front of everything, adds counters, and names a weight after the operator that
reads it. Here each node becomes `layer/operator`, and each weight gets the path of its variable.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from converter.core.foreign import GraphDef


def layer_of(node_name: str, layers: Mapping[str, str]) -> str:
    """The Keras layer of a graph node: the innermost part of its path that is a layer's name, else the first part."""
    parts = [_without_counter(part, layers) for part in node_name.split("/")]
    return next((part for part in reversed(parts) if part in layers), parts[0])


def described_layer(node_name: str, layers: Mapping[str, str]) -> str:
    """`layer (Class)` for an error message, or the node's name where it belongs to no layer."""
    layer = layer_of(node_name, layers)
    return f"{layer} ({layers[layer]})" if layer in layers else node_name


def keras_names(
    graph_def: GraphDef, model_name: str, layers: Mapping[str, str], weight_paths: Mapping[str, str]
) -> dict[str, str]:
    """New names by old node name, all different; a node that keeps its name is not listed.

    `weight_paths` has the variable's path of each node that stands for a variable.
    """
    scopes = {*layers, model_name}
    rename: dict[str, str] = {}
    taken = {node.name for node in graph_def.node}
    for node in graph_def.node:
        parts = [_without_counter(part, scopes) for part in weight_paths.get(node.name, node.name).split("/")]
        if len(parts) > 1 and parts[0] == model_name:
            parts = parts[1:]
        wanted = "/".join(parts)
        if wanted == node.name:
            continue
        if wanted in taken:
            wanted = next(f"{wanted}_{n}" for n in range(1, len(taken) + 2) if f"{wanted}_{n}" not in taken)
        taken.add(wanted)
        rename[node.name] = wanted
    return rename


def rename_nodes(graph_def: GraphDef, rename: Mapping[str, str]) -> None:
    """Rename nodes of `graph_def` in place, wherever they are read.

    A node that has one of the new names and is not renamed itself becomes `name/inner`.
    """
    moves = dict(rename)
    wanted = set(moves.values())
    for node in graph_def.node:
        if node.name in wanted and node.name not in moves:
            moves[node.name] = f"{node.name}/inner"
    for node in graph_def.node:
        node.name = moves.get(node.name, node.name)
        for index, name in enumerate(node.input):
            caret, bare = ("^", name[1:]) if name.startswith("^") else ("", name)
            base, _, port = bare.partition(":")
            if base in moves:
                node.input[index] = caret + moves[base] + (f":{port}" if port else "")


def _without_counter(part: str, scopes: Container[str]) -> str:
    base, _, count = part.rpartition("_")
    return base if part not in scopes and count.isdigit() and base in scopes else part
