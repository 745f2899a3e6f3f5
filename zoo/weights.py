"""Loading weights into an existing model: all of them, checked before the first is assigned.

The content decides between three layouts: the zip archive of a `.keras` file (only its weights are read; its
configuration, which may contain code, is not), Keras 3's weights in HDF5, and the HDF5 of Keras 1 and 2, with or
without a whole model around it. `zoo.layouts` pairs the arrays with the variables.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import h5py
import keras
import numpy as np
import numpy.typing as npt

from zoo.layouts import Kind, Pair, WeightsError, is_legacy, keras3_pairs, legacy_pairs
from zoo.spec import ModelSpec

__all__ = ["Kind", "WeightsError", "load_weights", "published_weights"]

_MEMBER = "model.weights.h5"
_TIMEOUT = 30.0  # seconds without a byte after which a download fails
# What h5py, zipfile and zlib raise for damaged bytes.
_READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Give every weight of `model` its value from `path`: `.keras`, `.weights.h5`, or legacy `.h5`, by content.

    Legacy layers are paired as `zoo.layouts.legacy_pairs` says. Raises
    WeightsError, and leaves the model unchanged, where the file is missing or damaged, where a layer's weight is
    missing or has another shape (the message gives both), or where a stored value is NaN or infinite.
    """
    path = Path(path)
    try:
        with _reading(path), _open(path, model) as file:
            pairs = legacy_pairs(file, model) if is_legacy(file) else keras3_pairs(file, model)
            for pair in pairs:
                _check_shape(pair)
            values = [_read(pair) for pair in pairs]
    except WeightsError as error:
        if str(error).startswith(str(path)):
            raise
        raise WeightsError(f"{path} does not have the weights of {model.name}:\n{error}", error.kind) from error
    for pair, value in zip(pairs, values, strict=True):
        pair.variable.assign(value)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def published_weights(spec: ModelSpec, cache: Path | None = None) -> Path:
    """The file with the public ImageNet weights of `spec`, downloaded by Keras unless it is in `cache` already.

    `cache` is Keras's directory by default. Progress goes to stderr. Raises WeightsError of kind "unavailable" where
    none are published, where the download fails, or where the MD5 digest is not the published one.
    """
    source = spec.published
    if source is None:
        raise WeightsError(f"{spec.name} has no published weights; give a file", "unavailable")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr), _Download(source.url):
            file = keras.utils.get_file(
                source.filename,
                source.url,
                file_hash=source.md5,
                hash_algorithm="md5",
                cache_subdir="models",
                cache_dir=None if cache is None else str(cache),
            )
    finally:
        socket.setdefaulttimeout(before)
    return Path(file)


class _Download:
    """Convert what `keras.utils.get_file` raises to WeightsError.

    Keras reports a failed download as a bare Exception around the URLError, so an `except` clause cannot name it.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cause = error.__context__ if type(error) is Exception else error
        if isinstance(cause, (OSError, ValueError)):
            raise WeightsError(f"{self.url} could not be downloaded: {_reason(cause)}", "unavailable") from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Report any error of the libraries on a damaged file as one WeightsError."""
    try:
        yield
    except WeightsError:
        raise
    except _READ_ERRORS as error:
        reason = _reason(error)
        raise WeightsError(f"{path} is damaged or cut short: {reason}\nsave or download it again", "damaged") from error


@contextlib.contextmanager
def _open(path: Path, model: keras.Model) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, or the one inside the `.keras` archive there."""
    if not path.exists():
        raise WeightsError(f"{path}: no such file", "missing")
    if path.is_dir():
        raise WeightsError(f"{path} is a directory, not a file of weights", "damaged")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {_reason(error)}", "missing") from error
    with stream:
        if stream.read(4) == b"PK\x03\x04":
            with h5py.File(io.BytesIO(_member(stream, path, model)), "r") as file:
                yield file
        elif h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                yield file
        else:
            raise WeightsError(f"{path} is neither HDF5 nor a .keras archive", "damaged")


def _member(stream: BinaryIO, path: Path, model: keras.Model) -> bytes:
    """The weights of a `.keras` archive, checked by its CRC; refused where they are much larger than the model's."""
    with zipfile.ZipFile(stream) as archive:
        if _MEMBER not in archive.namelist():
            raise WeightsError(f"{path} has no {_MEMBER}, so it is not a .keras archive with weights", "damaged")
        own = sum(int(np.prod(variable.shape)) for variable in model.variables) * 8
        limit = 8 * own + 2**26  # float64, with an optimizer's moments, and 64 MiB for metadata
        size = archive.getinfo(_MEMBER).file_size
        if size > limit:
            raise WeightsError(f"{path} holds {size} bytes of weights, too many for {model.name}", "mismatch")
        return archive.read(_MEMBER)


def _check_shape(pair: Pair) -> None:
    expected, stored = tuple(pair.variable.shape), tuple(pair.dataset.shape)
    if expected != stored:
        raise WeightsError(
            f"layer {pair.layer}: {pair.variable.name} is {expected} in the model, {stored} in the file"
            f" ({pair.dataset.name})\nthe number of classes, the input shape or the architecture differ",
            "mismatch",
        )


def _read(pair: Pair) -> npt.NDArray[np.generic]:
    """The stored values; raises WeightsError where they are not finite numbers."""
    values = np.asarray(pair.dataset[()])
    if values.dtype.kind == "V" and values.dtype.itemsize == 2:  # bfloat16: the upper half of a float32
        values = (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if values.dtype.kind not in "biuf":
        raise WeightsError(f"layer {pair.layer}: {pair.variable.name} is stored as {values.dtype}", "mismatch")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise WeightsError(
            f"layer {pair.layer}: {pair.variable.name} has {bad} NaN or infinite values ({pair.dataset.name})", "nan"
        )
    return values


def _reason(error: BaseException) -> str:
    """The first line of an error's text, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
