"""A functional model with fewer channels: the same layers, every number of filters and units multiplied."""

from __future__ import annotations

import copy
import math

from converter.core.errors import UsageError
from converter.core.foreign import JsonObject, KerasModel
from converter.core.text import one_line

_COUNTS = ("filters", "units")
SMALLEST = 4  # channels, at least


def narrowed(model: KerasModel, width: float) -> KerasModel:
    """`model` with `width` times the channels in every layer but the last ones, newly initialized.

    Numbers of channels are rounded to a multiple of every number of groups, so that groups stay. Raises UsageError
    where the model's layers do not fit together any more, or cannot be rebuilt from their configuration.
    """
    import keras

    if width == 1.0:
        return model
    if any(type(layer).__name__ == "Lambda" for layer in model.layers):
        raise UsageError(
            f"--width {width:g}: {model.name} has Lambda layers, whose channels are fixed\nuse a model without"
        )
    config = copy.deepcopy(model.get_config())
    heads = {str(name) for name in _names(config.get("output_layers", []))}
    layers = [each for each in config["layers"] if isinstance(each.get("config"), dict)]
    multiple = math.lcm(*(int(each["config"].get("groups") or 1) for each in layers))
    for each in layers:
        each.pop("build_config", None)
        if each["config"].get("name") in heads or _before_head(each, heads, config):
            continue
        for key in _COUNTS:
            if isinstance(each["config"].get(key), int):
                each["config"][key] = scaled(each["config"][key], width, multiple)
    try:
        return (
            keras.Model.from_config(config) if type(model).__name__ == "Functional" else type(model).from_config(config)
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"--width {width:g}: {model.name} does not fit together: {one_line(error)}\nuse another width"
        ) from error


def scaled(count: int, width: float, multiple: int) -> int:
    """`count` channels times `width`, a multiple of `multiple` and at least `SMALLEST`."""
    least = multiple * math.ceil(SMALLEST / multiple)
    return max(least, multiple * round(count * width / multiple))


def _names(value: object) -> list[object]:
    """The names of layers in Keras's lists of [name, node, tensor]."""
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [value[0]]
        return [name for each in value for name in _names(each)]
    return []


def _before_head(layer: JsonObject, heads: set[str], config: JsonObject) -> bool:
    """Whether an output is nothing but an activation of this layer."""
    name = layer["config"].get("name")
    by_name = {each["config"].get("name"): each for each in config["layers"]}
    for head in heads:
        each = by_name.get(head, {})
        if each.get("class_name") in ("Activation", "Softmax") and f"'{name}'" in str(each.get("inbound_nodes")):
            return True
    return False
