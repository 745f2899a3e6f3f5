"""Weights from a file into a model that is already built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.core import SourceOptions
from converter.errors import InputError
from converter.sources.names import one_line


def assign_file(model: Any, path: Path, name: str, options: SourceOptions) -> dict[str, Any]:
    """Load `path` (.keras, .weights.h5 or legacy .h5) into `model`; facts about the file for the manifest.

    Raises InputError where the file is missing, damaged, or does not fit, naming the layer.
    """
    from zoo.weights import WeightsError, load_weights

    if not path.is_file():
        raise InputError(f"{path}: no such file of weights\ngive a .keras, .weights.h5 or .h5 file")
    try:
        load_weights(model, path)
    except WeightsError as error:
        raise InputError(f"{path}: {one_line(error)}\ngive the weights of {name} in this shape") from error
    return {}
