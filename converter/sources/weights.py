"""Weights from a file, inspected and then assigned to a model that is already built."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from converter.core.errors import InputError
from converter.core.foreign import Facts, KerasModel
from converter.sources.inspection.inspect import inspect_file
from converter.sources.inspection.protocol import Request
from converter.sources.names import is_file

IMAGENET = "imagenet"
"""The value of `--weights` that means the published weights."""


def require_weights(weights: str | None) -> None:
    """Raise InputError where `weights` (the value of `--weights`) is neither a file nor `IMAGENET`."""
    if weights is not None and weights != IMAGENET and not is_file(weights):
        raise InputError(f"--weights {weights}: no such file\ngive a .keras, .weights.h5 or .h5 file, or `imagenet`")


def assign_file(model: KerasModel, path: Path, name: str) -> Facts:
    """Load the weights of `path` (.keras, .weights.h5, HDF5 of Keras 1 and 2) into `model`; facts for the manifest.

    A configuration in the file is not read. `name` is what messages call the model. Raises InputError where the file is
    missing, damaged, or does not fit (the message names the layer), UnsafeError for a file that reaches outside itself
    or declares implausible sizes.
    """
    if not is_file(path):
        raise InputError(f"--weights {path}: no such file\ngive a .keras, .weights.h5 or .h5 file for {name}")
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as directory:
        found = inspect_file(Request(path, Path(directory), weights_only=True), str(path))
        assign_stored(model, found.weights, str(path))
    return {"weights": path.name, "weights_keras_version": found.version}


def assign_stored(model: KerasModel, path: Path, title: str, renamed: Mapping[str, str] | None = None) -> None:
    """Load the weights of the inspected HDF5 file `path`; `title` is the user's name for it.

    `renamed` are old names of layers by their new names. Raises InputError, naming the layer, where a weight is
    missing, has another shape, or is not finite.
    """
    from zoo.weights import WeightsError, load_weights

    try:
        with _old_names(model, renamed or {}):
            load_weights(model, path)
    except WeightsError as error:
        raise InputError(str(error).replace(str(path), title)) from error


@contextmanager
def _old_names(model: KerasModel, renamed: Mapping[str, str]) -> Iterator[None]:
    """Give layers the names that the file uses, so that weights are paired by name and not by position."""
    layers = [layer for layer in model.layers if layer.name in renamed]
    new = [layer.name for layer in layers]
    try:
        for layer in layers:
            layer.name = renamed[layer.name]
        yield
    finally:
        for layer, name in zip(layers, new, strict=True):
            layer.name = name
