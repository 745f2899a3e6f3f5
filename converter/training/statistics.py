"""Batch normalizations while few images are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from converter.core.foreign import KerasModel

SHARE = 4
"""The moving averages look back on a quarter of an epoch, or further where the layer's own momentum is lower."""


@contextmanager
def quick_statistics(model: KerasModel, steps: int) -> Iterator[float]:
    """Within the context, moving averages follow within an epoch of `steps`; yields the largest momentum.

    Keras's default, 0.99, looks back on a hundred steps: after an epoch of forty the averages are still those of the
    beginning, and a model that has learned its images predicts nothing. The momentum only matters in training, and is
    as before afterwards.
    """
    import keras

    found = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    own = [layer.momentum for layer in found]
    limit = 1.0 - 1.0 / max(4, steps / SHARE)
    for layer in found:
        layer.momentum = min(layer.momentum, limit)
    try:
        yield limit
    finally:
        for layer, momentum in zip(found, own, strict=True):
            layer.momentum = momentum
