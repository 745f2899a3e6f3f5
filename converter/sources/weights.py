"""Weights from a file into a model that is already built."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converter.core.errors import InputError
from converter.sources.inspection.inspect import inspect_file
from converter.sources.names import is_file


def assign_file(model: Any, path: Path, name: str) -> dict[str, Any]:
    """Load the weights of `path` (.keras, .weights.h5, HDF5 of Keras 1 and 2) into `model`; facts for the manifest.

    A configuration in the file is not looked at. Raises InputError where the file is missing, damaged, or does not fit,
    naming the layer; UnsafeError for an archive or HDF5 file that holds more than weights.
    """
    if not is_file(path):
        raise InputError(f"--weights {path}: no such file\ngive a .keras, .weights.h5 or .h5 file for {name}")
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as directory:
        facts = inspect_file(path, Path(directory), str(path), weights_only=True)
        assign_stored(model, Path(facts["weights"]), str(path))
    return {"weights": path.name, "weights_keras_version": facts["version"]}


def assign_stored(model: Any, path: Path, title: str, renamed: Mapping[str, str] | None = None) -> None:
    """Load the inspected HDF5 file `path`; `title` is what the user calls it. `renamed`: old names of layers by new.

    Raises InputError where a weight is missing, of another shape, or not finite, naming the layer.
    """
    from zoo.weights import WeightsError, load_weights

    try:
        with _old_names(model, renamed or {}):
            load_weights(model, path)
    except WeightsError as error:
        raise InputError(str(error).replace(str(path), title)) from error


@contextmanager
def _old_names(model: Any, renamed: Mapping[str, str]) -> Iterator[None]:
    """Layers under the names that the file has for their weights, so that these are paired by name, not by position."""
    layers = [layer for layer in model.layers if layer.name in renamed]
    new = [layer.name for layer in layers]
    try:
        for layer in layers:
            layer.name = renamed[layer.name]
        yield
    finally:
        for layer, name in zip(layers, new, strict=True):
            layer.name = name
