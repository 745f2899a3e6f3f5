"""Sequences of different lengths as samples: steps that a mask leaves out, at the end, at the beginning, in between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.core.data import Array


def with_masks(inputs: Mapping[str, Array], values: Mapping[str, float]) -> dict[str, Array]:
    """Copies of `inputs`, shape (samples, steps, ...), with the masked value at some steps of some samples.

    `values` are by input; other inputs are returned as they are. In turn a sample ends early, begins late and has a
    hole, is whole, has every other step, or has its first step only.
    """
    result = dict(inputs)
    for name, value in values.items():
        array = inputs[name].copy()
        if array.ndim > 1 and array.shape[1] > 1:
            for index, sample in enumerate(array):
                sample[_left_out(index, array.shape[1])] = value
        result[name] = array
    return result


def _left_out(sample: int, steps: int) -> Array:
    """Which steps of a sample do not count: boolean, shape (steps,)."""
    step = np.arange(steps)
    kinds = (
        step >= max(1, steps * 2 // 3),
        (step < steps // 4) | (step == steps // 2),
        np.zeros(steps, bool),
        step % 2 == 1,
        step > 0,
    )
    return kinds[sample % len(kinds)]
