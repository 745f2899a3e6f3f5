"""Model files as an older Keras, or an attacker, would write them: zip, JSON and HDF5 made by hand."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from converter.core.data import Array
from converter.core.foreign import Json, JsonObject


def layer(name: str, module: str | None = "keras.layers", **config: Json) -> JsonObject:
    """A layer as Keras 3 spells it; `title` in `config` is the layer's name."""
    title = config.pop("title", name.lower())
    return {"module": module, "class_name": name, "config": {"name": title, **config}, "registered_name": None}


def sequential(*layers: JsonObject, shape: Sequence[int | None] = (None, 8, 8, 3)) -> JsonObject:
    first = layer("InputLayer", batch_shape=list(shape), dtype="float32", title="input")
    return layer("Sequential", "keras", title="stack", layers=[first, *layers])


def weights_file(arrays: Mapping[str, Array] | None = None) -> bytes:
    """HDF5 with the arrays at their paths."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_group("layers")
        for path, array in (arrays or {}).items():
            file[path] = array
    return stream.getvalue()


def write_keras(
    path: Path, config: JsonObject, weights: bytes | None = None, extra: Mapping[str, bytes] | None = None
) -> Path:
    """A `.keras` archive of Keras 3 around `config`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights_file() if weights is None else weights)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def write_legacy(
    path: Path, config: JsonObject | None, weights: Mapping[str, Mapping[str, Array]], version: str = "2.3.1"
) -> Path:
    """HDF5 as Keras 1 and 2 wrote it: `weights` are arrays by weight name by layer name; no `config`, weights only."""
    with h5py.File(path, "w") as file:
        root = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
            file.attrs["training_config"] = json.dumps(
                {"optimizer_config": {"class_name": "Adam", "config": {"lr": 0.1}}}
            )
            file.attrs["keras_version"] = version.encode()
            root = file.create_group("model_weights")
        root.attrs["keras_version"] = version.encode()
        root.attrs["backend"] = b"tensorflow"
        root.attrs["layer_names"] = np.array([name.encode() for name in weights])
        for name, arrays in weights.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = np.array([key.encode() for key in arrays], dtype="S64")
            for key, array in arrays.items():
                group[key] = array
    return path


def conv(name: str = "c", filters: int = 4, inputs: int = 3, seed: int = 0) -> dict[str, Array]:
    """Kernel and bias of a 3x3 convolution as Keras 2 names them."""
    rng = np.random.default_rng(seed)
    return {
        f"{name}/kernel:0": rng.normal(size=(3, 3, inputs, filters)).astype(np.float32),
        f"{name}/bias:0": rng.normal(size=filters).astype(np.float32),
    }
