"""A sketch: an activation summarised in 64 numbers, enough to estimate the distance between two activations.

A count sketch (Charikar, Chen and Farach-Colton 2002): each element is added, with a random sign, to one of 64 buckets.
The sketch is linear and preserves squared distances in expectation, with a relative standard deviation of about sqrt(2
/ 64) (Weinberger et al. 2009, appendix A). So the relative distance of two sketches estimates the relative distance of
the two activations within about a fifth.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import math

import numpy as np
import numpy.typing as npt

from converter.core.data import Array
from converter.core.distance import relative_l2

BUCKETS = 64
SAMPLES = 2
"""Number of golden samples that are sketched."""

PIECE = 1 << 18
"""Number of elements that are hashed and summed at once, so that memory use does not grow with the activation."""

CHANNELS_FIRST, KERAS_LAYOUT = "channels-first", ""
"""Layout of an activation in an artifact: channels after the batch axis, or the same as in Keras."""


def sketch(activation: Array, layout: str = KERAS_LAYOUT) -> npt.NDArray[np.float64]:
    """The sketch of each sample of `activation`, shape (samples, 64).

    `activation` has shape (samples, ...). With `CHANNELS_FIRST` its second axis is moved to the end first, so that the
    sketch equals that of the same activation with channels last. A scalar or an empty array returns zeros.
    """
    if activation.ndim < 1 or not activation.size:
        return np.zeros((len(activation) if activation.ndim else 1, BUCKETS))
    if layout == CHANNELS_FIRST:
        activation = np.moveaxis(activation, 1, -1)
    flat = activation.reshape(len(activation), -1)
    result = np.zeros((len(flat), BUCKETS))
    for number in range(-(-flat.shape[1] // PIECE)):
        piece = flat[:, number * PIECE : (number + 1) * PIECE].astype(np.float64)
        hashes = _hashes(number)[: piece.shape[1]].astype(np.intp)
        for sample, values in enumerate(piece):
            positive, also, negative, too = np.bincount(hashes, values, 4 * BUCKETS).reshape(4, BUCKETS)
            with np.errstate(invalid="ignore"):  # infinities of both signs
                result[sample] += positive + also - negative - too
    return result


@functools.lru_cache(maxsize=128)
def _hashes(number: int) -> npt.NDArray[np.uint8]:
    """A byte for each element of the piece `number`: its bucket in the lower six bits, its sign in the highest."""
    return np.frombuffer(hashlib.shake_256(b"cnnexport layers %d" % number).digest(PIECE), np.uint8)


def distance(one: Array, reference: Array) -> float:
    """The largest relative L2 distance over the samples of two sketches; infinite if `one` is not finite.

    Both have shape (samples, 64). If a reference is all zero, the distance of anything else from it is infinite.
    """
    if one.shape != reference.shape or not np.isfinite(one).all():
        return math.inf
    return max((relative_l2(*pair) for pair in zip(one, reference, strict=True)), default=0.0)


def to_text(values: Array) -> str:
    """A sketch as base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def from_text(text: str) -> npt.NDArray[np.float64]:
    """The inverse of `to_text`: a sketch of shape (samples, 64), NaN and Inf included.

    Raises ValueError for invalid text.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64 ({error})") from error
    values = np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(np.float64)
    if not values.size or values.size % BUCKETS:
        raise ValueError(f"{values.size} values, expected a multiple of {BUCKETS}")
    return values.reshape(-1, BUCKETS)
