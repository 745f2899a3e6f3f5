"""The graph in a model's configuration: calls of layers, references to their outputs, and the layer names in them."""

from __future__ import annotations

from collections.abc import Collection

from converter.core.foreign import Json, JsonObject
from converter.sources.repair.operations import tensor


def nodes_of(layer: JsonObject) -> list[Json]:
    """The calls of a layer, as the file lists them."""
    nodes = layer.get("inbound_nodes")
    return nodes if isinstance(nodes, list) else []


def is_reference(value: Json) -> bool:
    """Whether `value` refers to a tensor as Keras 1 and 2 do: [layer, node index, tensor index], or with arguments."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(index, int) and not isinstance(index, bool) for index in value[1:3])
    )


def call(node: Json, shifts: dict[str, int]) -> JsonObject:
    """A node of Keras 1 or 2 as the arguments of a call, tensors and constants by position first.

    `shifts` is subtracted from the node index of references to a layer, by the layer's name.
    """
    if isinstance(node, dict) and {"args", "kwargs"} <= set(node):
        return node
    kwargs: JsonObject = {}

    def resolve(value: Json) -> Json:
        constant = isinstance(value, list) and len(value) >= 3 and value[0] == "_CONSTANT_VALUE"
        if constant or is_reference(value):
            if len(value) == 4 and isinstance(value[3], dict):
                kwargs.update({key: resolve(item) for key, item in value[3].items()})
            return value[2] if constant else tensor(value[0], value[1] - shifts.get(value[0], 0), value[2])
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        return value

    first = resolve(node)
    if not is_reference(node):
        first = unwrapped(first)
    return {"args": [first], "kwargs": kwargs}


def unwrapped(value: Json) -> Json:
    """The only element of a list of one, any other value unchanged, as Keras 1 and 2 treat inputs and outputs."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def shifted(value: Json, shifts: dict[str, int]) -> Json:
    """References with `shifts`, by layer name, subtracted from their node indices."""
    if is_reference(value):
        return [value[0], value[1] - shifts.get(value[0], 0), value[2]]
    if isinstance(value, list):
        return [shifted(item, shifts) for item in value]
    if isinstance(value, dict):
        return {key: shifted(item, shifts) for key, item in value.items()}
    return value


def _renamed(value: Json, new: dict[str, str]) -> Json:
    """References with the new names of their layers; other text is unchanged."""
    if is_reference(value):
        return [new.get(value[0], value[0]), *value[1:]]
    if isinstance(value, list):
        return [_renamed(item, new) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, new) for key, item in value.items()}
    return value


def free_name(name: str, taken: Collection[Json]) -> str:
    """`name`, with as many underscores behind it as make it none of `taken`."""
    while name in taken:
        name += "_"
    return name


def without_slashes(model: JsonObject) -> dict[str, str]:
    """Rename, in place, the layers of a functional model that have a slash in their name; returns old by new names.

    Keras 3 does not allow slashes, and Keras 2 stored the weights under the old name.
    """
    names = {layer.get("name") for layer in model["layers"]}
    new: dict[str, str] = {}
    for name in sorted(name for name in names if isinstance(name, str) and "/" in name):
        free = free_name(name.replace("/", "_"), names)
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
