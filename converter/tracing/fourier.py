"""Fourier transforms of `keras.ops` as products with constant matrices: no complex numbers, which formats lack.

Same arguments and results as Keras's own. The transform of a known length n is y[k] = sum over j of
x[j] exp(-2 pi i jk / n).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TypeGuard

import numpy as np

from converter.core.data import Array
from converter.core.foreign import Given, Tensor

LONGEST = 4096
"""Length above which TensorFlow's own transform stays: the matrices of 4096 take 67 MB"""

Pair = tuple[Tensor, Tensor]
"""Real and imaginary parts"""


def transforms(original: Callable[[str], Callable[..., Tensor]]) -> dict[str, Callable[..., Tensor | Pair]]:
    """The functions by the names that they have in Keras's backend; `original` gives Keras's own, for what stays."""
    return {
        "fft": partial(_fft, original("fft")),
        "fft2": partial(_fft2, original("fft2")),
        "rfft": partial(_rfft, original("rfft")),
        "irfft": partial(_irfft, original("irfft")),
        "stft": partial(_stft, original("stft")),
        "istft": partial(_istft, original("istft")),
    }


def _waves(length: int, places: int) -> tuple[Array, Array]:
    """cos and sin of 2 pi jk / length, shape (length, places); angles are reduced before they are rounded."""
    angles = 2 * np.pi * (np.outer(np.arange(length), np.arange(places)) % length) / length
    return np.cos(angles), np.sin(angles)


def _along(x: Tensor, matrix: Array, axis: int = -1) -> Tensor:
    """`x` with its last axis, or the one before, multiplied by `matrix`, shape (length, places)."""
    import tensorflow as tf

    constant = tf.constant(matrix, x.dtype)
    if axis == -2:
        return tf.matmul(tf.transpose(constant), x)
    return tf.matmul(x, constant) if x.shape.rank > 1 else tf.squeeze(tf.matmul(x[tf.newaxis], constant), 0)


def _known(length: int | None) -> TypeGuard[int]:
    return length is not None and 0 < length <= LONGEST


def _fft(original: Callable[..., Pair], x: Pair) -> Pair:
    import tensorflow as tf

    real, imaginary = map(tf.convert_to_tensor, x)
    length = real.shape[-1]
    if not _known(length):
        return original(x)
    return _transformed(real, imaginary, length, -1)


def _fft2(original: Callable[..., Pair], x: Pair) -> Pair:
    import tensorflow as tf

    real, imaginary = map(tf.convert_to_tensor, x)
    rows, columns = real.shape[-2:]
    if not (_known(rows) and _known(columns)):
        return original(x)
    return _transformed(*_transformed(real, imaginary, columns, -1), rows, -2)


def _transformed(real: Tensor, imaginary: Tensor, length: int, axis: int) -> Pair:
    cos, sin = _waves(length, length)
    return (
        _along(real, cos, axis) + _along(imaginary, sin, axis),
        _along(imaginary, cos, axis) - _along(real, sin, axis),
    )


def _rfft(original: Callable[..., Pair], x: Tensor, fft_length: int | None = None) -> Pair:
    import tensorflow as tf

    given = tf.convert_to_tensor(x)
    length = fft_length or given.shape[-1]
    if not (_known(length) and _known(given.shape[-1])):
        return original(x, fft_length)
    cos, sin = _waves(length, length // 2 + 1)
    fitted = _fitted(given, length)
    return _along(fitted, cos), _along(fitted, -sin)


def _irfft(original: Callable[..., Tensor], x: Pair, fft_length: int | None = None) -> Tensor:
    import tensorflow as tf

    real, imaginary = map(tf.convert_to_tensor, x)
    given = real.shape[-1]
    if not _known(given) or not _known(fft_length or 2 * (given - 1)):
        return original(x, fft_length)
    length = fft_length or 2 * (given - 1)
    places = length // 2 + 1
    cos, sin = _waves(length, places)
    twice = np.where((np.arange(places) == 0) | (2 * np.arange(places) == length), 1.0, 2.0) / length
    real, imaginary = _fitted(real, places), _fitted(imaginary, places)
    return _along(real, (cos * twice).T) - _along(imaginary, (sin * twice).T)


def _fitted(x: Tensor, length: int) -> Tensor:
    """`x` with its last axis cut, or continued with zeros, to `length`."""
    import tensorflow as tf

    missing = length - x.shape[-1]
    if missing <= 0:
        return x[..., :length]
    return tf.pad(x, [*[[0, 0]] * (x.shape.rank - 1), [0, missing]])


def _window(kind: str | Tensor | None, length: int, whole: int, dtype: object) -> Tensor | None:
    """The window of `length` in the middle of `whole`, as Keras makes it, or None."""
    import tensorflow as tf

    if kind is None:
        return None
    before = (whole - length) // 2
    named = {"hann": tf.signal.hann_window, "hamming": tf.signal.hamming_window}
    found = (
        named[kind](length, periodic=True, dtype=dtype) if isinstance(kind, str) else tf.convert_to_tensor(kind, dtype)
    )
    return tf.pad(found, [[before, whole - length - before]])


def by_name(original: Callable[..., object], *given: object, **named: object) -> Given:
    """The arguments of a call of `original` by name, with its defaults."""
    bound = inspect.signature(original).bind(*given, **named)
    bound.apply_defaults()
    return dict(bound.arguments)


def _stft(original: Callable[..., Pair], *given: Tensor, **named: Tensor) -> Pair:
    import tensorflow as tf

    call = by_name(original, *given, **named)
    x, whole = tf.convert_to_tensor(call["x"]), call["fft_length"]
    if not _known(whole) or x.dtype not in (tf.float32, tf.float64):
        return original(*given, **named)
    weights = _window(call["window"], call["sequence_length"], whole, x.dtype)
    if call["center"]:
        around = [whole // 2, whole // 2]
        x = tf.pad(x, [*[[0, 0]] * (x.shape.rank - 1), around], mode="reflect")
    frames = tf.signal.frame(x, whole, call["sequence_stride"])
    frames = frames if weights is None else frames * weights
    cos, sin = _waves(whole, whole // 2 + 1)
    return _along(frames, cos), _along(frames, -sin)


def _istft(original: Callable[..., Tensor], *given: Tensor, **named: Tensor) -> Tensor:
    import tensorflow as tf

    call = by_name(original, *given, **named)
    whole, step = call["fft_length"], call["sequence_stride"]
    if not _known(whole):
        return original(*given, **named)
    frames = _irfft(_unknown, call["x"], whole)
    weights = _window(call["window"], call["sequence_length"], whole, frames.dtype)
    if weights is not None:
        inverse = tf.signal.inverse_stft_window_fn(step, lambda _, dtype: weights)
        frames = frames * inverse(whole, dtype=frames.dtype)
    joined = _overlapped(frames, step)
    start = whole // 2 if call["center"] else 0
    if call["length"] is not None:
        return joined[..., start : start + call["length"]]
    return joined[..., start : -start if call["center"] else None]


def _overlapped(frames: Tensor, step: int) -> Tensor:
    """The sum of `frames`, shape (..., frames, length), each `step` after the one before: shape (..., samples)."""
    import tensorflow as tf

    length, before = frames.shape[-1], [[0, 0]] * (frames.shape.rank - 2)
    parts = -(-length // step)
    frames = _fitted(frames, parts * step)
    total = tf.add_n(
        [
            tf.pad(frames[..., part * step : (part + 1) * step], [*before, [part, parts - 1 - part], [0, 0]])
            for part in range(parts)
        ]
    )
    count = total.shape[-2] if total.shape[-2] is not None else tf.shape(total)[-2]
    leading = [tf.shape(total)[axis] if size is None else size for axis, size in enumerate(total.shape[:-2])]
    return tf.reshape(total, [*leading, count * step])[..., : (count - parts) * step + length]


def _unknown(*arguments: object) -> Tensor:
    raise ValueError("a spectrum of unknown length cannot be transformed back")
