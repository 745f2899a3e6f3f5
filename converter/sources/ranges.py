"""Valid inputs, derived from the first layers of a model: the range of pixels and of indices, and values of masks."""

from __future__ import annotations

from converter.core.foreign import JsonObject, KerasLayer, KerasModel

_PASSING = ("Resizing", "CenterCrop", "ZeroPadding2D", "Identity", "Permute", "Reshape", "Activation")
_SPREAD = 3.0  # standard deviations on either side of a Normalization layer's mean
_SMALLEST = 1e-12
_ABOUT_ONE = (0.5, 10.0)


def preprocessing_in(model: KerasModel) -> JsonObject:
    """The range of the inputs of `model` by its first Rescaling or Normalization layer; empty where it has neither.

    A Rescaling layer x * scale + offset without a positive offset takes pixels of [0, 255] or of [0, 1], whichever its
    scale makes about one; any other maps its range to [0, 1], or to [-1, 1] where its offset is negative. A
    Normalization layer (x - mean) / sqrt(variance) expects values near its mean. The result is empty for a model with
    several inputs.
    """
    import numpy as np

    first = _first_computing(model)
    name = type(first).__name__
    if name == "Rescaling":
        scale, offset = np.asarray(first.scale, np.float64), np.asarray(first.offset, np.float64)
        if np.abs(scale).min() < _SMALLEST:
            return {}
        lowest = -1.0 if offset.min() < 0 else 0.0
        ends = np.array([(lowest - offset) / scale, (1.0 - offset) / scale])
        # 1/255 and 2/255 map pixels to a range of width 1 and 2; 1 / (255 * deviation), as for ImageNet, to about 4
        pixels = [top for top in (255.0, 1.0) if offset.max() <= 0 and _ABOUT_ONE[0] < scale.min() * top]
        pixels = [top for top in pixels if scale.max() * top < _ABOUT_ONE[1]]
        if pixels:
            ends = np.array([0.0, pixels[0]])
    elif name == "Normalization" and not first.invert and first.mean is not None:
        mean, variance = np.asarray(first.mean, np.float64), np.asarray(first.variance, np.float64)
        ends = np.array([mean - _SPREAD * np.sqrt(variance), mean + _SPREAD * np.sqrt(variance)])
    else:
        return {}
    low, high = float(f"{ends.min():.6g}"), float(f"{ends.max():.6g}")
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        return {}
    return {"range": [low, high], "description": f"as the model's {name} layer {first.name} expects"}


def _first_computing(model: KerasModel) -> KerasLayer:
    """The first layer that does more to its single input than move or select values; None where it is ambiguous."""
    import keras

    while True:
        inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
        if len(inputs) != 1:
            return None
        operation = inputs[0]._keras_history.operation
        own = {id(layer) for layer in model.layers}
        while True:
            nodes = [node for node in operation._outbound_nodes if id(node.operation) in own]
            if len({id(node.operation) for node in nodes}) != 1:
                return None
            operation = nodes[0].operation
            passing = type(operation).__name__ in _PASSING or type(operation).__name__.startswith("Random")
            linear = getattr(operation, "activation", None) in (None, keras.activations.linear)
            if not (passing and linear):
                break
        if not isinstance(operation, keras.Model):
            return operation
        model = operation


def index_counts(model: KerasModel) -> list[int]:
    """For each input, the size of the smallest table that it is an index into; 0 where it is not, or is not known."""
    found = []
    for operations in _readers(model):
        sizes = [getattr(each, "input_dim", None) or getattr(each, "num_tokens", None) for each in operations]
        kinds = [type(each).__name__ in ("Embedding", "CategoryEncoding") for each in operations]
        known = [size for size, kind in zip(sizes, kinds, strict=True) if kind and isinstance(size, int)]
        found.append(min(known, default=0))
    return found


def mask_values(model: KerasModel) -> list[float | None]:
    """For each input, the value that stands for a step that does not count: 0 of an Embedding, or that of a Masking.

    None where no such layer reads the input.
    """
    found: list[float | None] = []
    for operations in _readers(model):
        values = [0.0 for each in operations if getattr(each, "mask_zero", False)]
        values += [float(each.mask_value) for each in operations if type(each).__name__ == "Masking"]
        found.append(values[0] if values else None)
    return found


def _readers(model: KerasModel) -> list[list[KerasLayer]]:
    """For each input of a functional model, the layers that read it, directly or behind layers that pass values on."""
    import keras

    graph = getattr(model, "_functional", None) or model
    found = []
    for tensor in keras.tree.flatten(getattr(graph, "inputs", None) or []):
        readers = []
        waiting = [node.operation for node in tensor._keras_history.operation._outbound_nodes]
        while waiting:
            operation = waiting.pop()
            readers.append(operation)
            if type(operation).__name__ in _PASSING:
                waiting += [node.operation for node in operation._outbound_nodes]
        found.append(readers)
    return found
