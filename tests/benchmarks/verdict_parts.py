"""What the small models of `verdicts.py` are built from."""

from __future__ import annotations

import keras
from keras import layers
from verdict_cases import TINY

from converter.core.foreign import KerasModel, KerasTensor, TensorTree
from converter.sources.untrained import calibrated


def complete(inputs: TensorTree, outputs: TensorTree, name: str) -> KerasModel:
    """The functional model, calibrated."""
    model = keras.Model(inputs, outputs, name=name)
    calibrated(model, name, 0, {})
    return model


def image_of(shape: tuple[int | None, ...] = TINY, name: str = "image") -> KerasTensor:
    return keras.Input(shape, name=name)


def conv(x: KerasTensor, filters: int, name: str, size: int = 3, strides: int = 1) -> KerasTensor:
    """A convolution with a ReLU."""
    return layers.Conv2D(filters, size, strides, padding="same", activation="relu", name=name)(x)


def classes(x: KerasTensor, count: int = 6, name: str = "classes") -> KerasTensor:
    """Global average pooling and a softmax."""
    x = layers.GlobalAveragePooling2D(name=f"{name}_average")(x)
    return layers.Dense(count, activation="softmax", name=name)(x)
