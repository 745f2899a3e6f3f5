"""An activation in 64 numbers: enough to tell how far two activations are apart, and nothing to store.

A count sketch (Charikar, Chen and Farach-Colton 2002): every element goes, with a random sign, into one of 64 buckets
that are summed up. The sketch is linear and preserves squared distances in expectation, with a relative standard
deviation of about sqrt(2 / 64) (Weinberger et al. 2009, appendix A), so the relative distance of two sketches
estimates that of two activations within a fifth or so.
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
"""How many of the golden samples are sketched."""

PIECE = 1 << 18
"""Elements that are hashed and summed up at once, so that the memory taken does not grow with the activation."""

CHANNELS_FIRST, AS_IT_IS = "channels-first", ""
"""How an activation lies in an artifact: channels behind the batch, or as in Keras."""


def sketch(activation: Array, layout: str = AS_IT_IS) -> npt.NDArray[np.float64]:
    """The sketch of each sample of `activation`, shape (samples, 64).

    `activation` has shape (samples, ...). With `CHANNELS_FIRST` its second axis is moved to the end before, so that
    the sketch is that of the same activation with channels last. A scalar or an empty array gives zeros.
    """
    if activation.ndim < 1 or not activation.size:
        return np.zeros((len(activation) if activation.ndim else 1, BUCKETS))
    if layout == CHANNELS_FIRST:
        activation = np.moveaxis(activation, 1, -1)
    flat = activation.reshape(len(activation), -1)
    result = np.zeros((len(flat), BUCKETS))
    for number in range(-(-flat.shape[1] // PIECE)):
        piece = flat[:, number * PIECE : (number + 1) * PIECE].astype(np.float64)
        buckets, signs = _hashes(number)
        for sample, values in enumerate(piece * signs[: piece.shape[1]]):
            result[sample] += np.bincount(buckets[: len(values)], values, BUCKETS)
    return result


@functools.lru_cache(maxsize=16)
def _hashes(number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The bucket and the sign of each element of one piece, by its number."""
    found = np.frombuffer(hashlib.shake_256(b"cnnexport layers %d" % number).digest(PIECE), np.uint8)
    return (found % BUCKETS).astype(np.int64), np.where(found & 0x80, -1.0, 1.0)


def distance(one: Array, reference: Array) -> float:
    """The largest relative L2 distance of two sketches' samples; infinite where `one` is not finite.

    Both have shape (samples, 64). Where a reference is all zero, anything else is infinitely far from it.
    """
    if one.shape != reference.shape or not np.isfinite(one).all():
        return math.inf
    return max((relative_l2(*pair) for pair in zip(one, reference, strict=True)), default=0.0)


def to_text(values: Array) -> str:
    """A sketch as base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def from_text(text: str) -> npt.NDArray[np.float64]:
    """The sketch of `to_text`, shape (samples, 64), as it is: NaN and Inf too. Raises ValueError where it is none."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64 ({error})") from error
    values = np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(np.float64)
    if not values.size or values.size % BUCKETS:
        raise ValueError(f"{values.size} values instead of {BUCKETS} for each sample")
    return values.reshape(-1, BUCKETS)
