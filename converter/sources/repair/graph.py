"""The graph in a model's configuration: calls of layers, references to their outputs, and the names these use."""

from __future__ import annotations

from typing import Any

from converter.sources.repair.operations import tensor

Json = dict[str, Any]


def nodes_of(layer: Json) -> list[Any]:
    """The calls of a layer, as the file lists them."""
    nodes = layer.get("inbound_nodes")
    return nodes if isinstance(nodes, list) else []


def is_reference(value: Any) -> bool:
    """[layer, node index, tensor index] with or without a mapping of arguments, as Keras 1 and 2 refer to a tensor."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(index, int) and not isinstance(index, bool) for index in value[1:3])
    )


def call(node: Any, shifts: dict[str, int]) -> Json:
    """A node of Keras 1 or 2 as the arguments of a call: positional tensors (or constants) first."""
    if isinstance(node, dict) and {"args", "kwargs"} <= set(node):
        return node
    kwargs: Json = {}

    def resolve(value: Any) -> Any:
        if is_reference(value):
            if len(value) == 4 and isinstance(value[3], dict):
                kwargs.update({key: resolve(item) for key, item in value[3].items()})
            if value[0] == "_CONSTANT_VALUE":
                return value[2]
            return tensor(value[0], value[1] - shifts.get(value[0], 0), value[2])
        if isinstance(value, list) and len(value) >= 3 and value[0] == "_CONSTANT_VALUE":
            if len(value) == 4 and isinstance(value[3], dict):
                kwargs.update({key: resolve(item) for key, item in value[3].items()})
            return value[2]
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        return value

    first = resolve(node)
    if not is_reference(node):
        first = alone(first)
    return {"args": [first], "kwargs": kwargs}


def alone(value: Any) -> Any:
    """The only element of a list of one, anything else as it is: how Keras 1 and 2 treat inputs and outputs."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def shifted(value: Any, shifts: dict[str, int]) -> Any:
    """References with their node indices lowered by what `shifts` says for their layer."""
    if is_reference(value):
        return [value[0], value[1] - shifts.get(value[0], 0), value[2]]
    if isinstance(value, list):
        return [shifted(item, shifts) for item in value]
    if isinstance(value, dict):
        return {key: shifted(item, shifts) for key, item in value.items()}
    return value


def _renamed(value: Any, new: dict[str, str]) -> Any:
    """References with their layers' new names; other text stays."""
    if is_reference(value):
        return [new.get(value[0], value[0]), *value[1:]]
    if isinstance(value, list):
        return [_renamed(item, new) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, new) for key, item in value.items()}
    return value


def without_slashes(model: Json) -> dict[str, str]:
    """Rename, in place, the layers of a functional model whose name holds a slash; old names by new ones.

    Keras 3 allows none, and Keras 2 stored the weights under the name that had it.
    """
    names = {layer.get("name") for layer in model["layers"]}
    new: dict[str, str] = {}
    for name in sorted(name for name in names if isinstance(name, str) and "/" in name):
        free = name.replace("/", "_")
        while free in names:
            free += "_"
        names.add(free)
        new[name] = free
    if new:
        for layer in model["layers"]:
            layer["name"] = new.get(layer["name"], layer["name"])
            inner = layer.get("config")
            if isinstance(inner, dict) and inner.get("name") in new:
                inner["name"] = new[inner["name"]]
            layer["inbound_nodes"] = _renamed(layer.get("inbound_nodes"), new)
        for key in ("input_layers", "output_layers"):
            model[key] = _renamed(model.get(key), new)
    return {free: name for name, free in new.items()}
