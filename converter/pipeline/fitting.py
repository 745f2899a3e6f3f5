"""Sizes of dynamic axes that a model accepts: a table of positions bounds the length of a sequence.

Nothing in a model says what its dynamic axes are bounded by, so sizes are tried on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from converter.core.data import Array
from converter.core.foreign import KerasModel
from converter.tracing.signature import Signature

Sizes = dict[str, tuple[int, ...]]
"""The shape of a sample, by input"""

PATIENCE = 15.0
"""Seconds after which no smaller sizes are tried: where memory is missing, TensorFlow waits ten of them each time"""


def fitting_sizes(model: KerasModel, signature: Signature, inputs: Mapping[str, Array]) -> Sizes | None:
    """The largest sizes up to those of `inputs` that `model` accepts at its dynamic axes, all in one proportion.

    `inputs` are samples that it refuses, by name. None if it accepts no smaller ones, or has no dynamic axes,
    or if the trials take too long.
    """
    whole = {spec.name: inputs[spec.name].shape[1:] for spec in signature.inputs}
    dynamic = {
        spec.name: [axis for axis, size in enumerate(spec.shape[1:]) if size is None] for spec in signature.inputs
    }
    longest = max((whole[name][axis] for name, axes in dynamic.items() for axis in axes), default=0)

    def sizes(length: int) -> Sizes:
        return {
            name: tuple(
                max(1, size * length // longest) if axis in dynamic[name] else size for axis, size in enumerate(shape)
            )
            for name, shape in whole.items()
        }

    def accepted(length: int) -> bool:
        tensors = [_cut(inputs[name], shape) for name, shape in sizes(length).items()]
        try:
            signature.call(model, tensors)
        except Exception:  # noqa: BLE001  the layers' own code runs here and may raise anything
            return False
        return True

    until, low = time.monotonic() + PATIENCE, longest // 2
    while low and not accepted(low):
        low = low // 2 if time.monotonic() < until else 0
    if not low:
        return None
    high = min(2 * low, longest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepted(middle) else (low, middle)
    return sizes(low)


def _cut(array: Array, shape: tuple[int, ...]) -> Array:
    """The first sample of `array`, cut to `shape`."""
    return array[(slice(0, 1), *(slice(0, size) for size in shape))]
