"""The outputs of a classifier: whether they are probabilities or logits, which decides how the loss is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converter.core.data import TensorSpec
from converter.core.errors import UsageError
from converter.core.foreign import KerasModel, KerasTensor

CLOSE = 1e-3


def heads(model: KerasModel, outputs: tuple[TensorSpec, ...], name: str) -> tuple[TensorSpec, ...]:
    """`outputs` of `model` with their final activation, "softmax" or "linear" for logits.

    The activation is that of the last layer; where Keras does not know it, the outputs of four inputs tell it. Raises
    UsageError for sigmoids, which are not exclusive classes.
    """
    import keras

    tensors = keras.tree.flatten(getattr(model, "outputs", None) or [])
    known = [_activation(tensor) for tensor in tensors] if len(tensors) == len(outputs) else [""] * len(outputs)
    if not all(known):
        measured = _measured(model, len(outputs))
        known = [each or found for each, found in zip(known, measured, strict=True)]
    if "sigmoid" in known:
        raise UsageError(
            f"{name}: output {outputs[known.index('sigmoid')].name} is a sigmoid\ntrain a softmax or logits"
        )
    return tuple(
        replace(spec, activation="softmax" if found == "softmax" else "linear")
        for spec, found in zip(outputs, known, strict=True)
    )


def _activation(tensor: KerasTensor) -> str:
    """ "softmax", "sigmoid" or "linear" by the layer that computes `tensor`; "" where that is a model or not known."""
    operation = getattr(getattr(tensor, "_keras_history", None), "operation", None)
    if type(operation).__name__ == "Softmax":
        return "softmax"
    if type(operation).__name__ not in ("Dense", "Activation", "Conv2D", "Conv1D"):
        return ""
    name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    return name if name in ("softmax", "sigmoid") else "linear"


def _measured(model: KerasModel, count: int) -> list[str]:
    import keras

    shape = model.inputs[0].shape[1:] if getattr(model, "inputs", None) else model.input_shape[1:]
    inputs = np.random.Generator(np.random.PCG64(0)).random((4, *shape), np.float32)
    found = [np.asarray(each) for each in keras.tree.flatten(model(inputs, training=False))]
    sums = [bool(each.min() >= 0 and np.allclose(each.sum(-1), 1.0, atol=CLOSE)) for each in found]
    return ["softmax" if each else "linear" for each in sums] if len(found) == count else ["linear"] * count
