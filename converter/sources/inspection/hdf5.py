"""Inspection of an HDF5 file: no link may leave the file, every size must be plausible, every weight finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from converter.core.data import Array
from converter.core.errors import InputError, UnsafeError
from converter.core.text import one_line
from converter.sources.inspection.archive import MAX_JSON

MAX_BYTES = 16 << 30  # of one array
MAX_OBJECTS = 200_000
MAX_RATIO = 20  # declared over stored bytes of an array
RATIO_FLOOR = 16 << 20  # bytes; below this size the ratio is not checked
BLOCK = 16 << 20
# What h5py raises for damaged bytes.
ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True)
class Content:
    """The configuration and the version of Keras as the root's attributes state them, None where they do not.

    `weight_bytes` is what all arrays of weights take in memory.
    """

    model_config: str | None
    keras_version: str | None
    weight_bytes: int


def inspect(path: Path) -> Content:
    """What the HDF5 file `path` contains, with every array read once.

    Raises UnsafeError for links out of the file and for sizes beyond the limits, InputError where the file is damaged,
    is not Keras's, or has a weight that is NaN or infinite (the message names the layer).
    """
    try:
        with h5py.File(path, "r") as file:
            total = sum(_check(dataset) for dataset in _datasets(file))
            # nothing uses "backend", but a loader may read it, so its size is checked too
            config, version, _ = (_text(file, name) for name in ("model_config", "keras_version", "backend"))
            if config is None:
                _require_weights(file)
            return Content(config, version, total)
    except ERRORS as error:
        raise InputError(
            f"the HDF5 data cannot be read: {type(error).__name__}: {one_line(error, 150)}\n"
            "the file is damaged; save or download it again"
        ) from error


def _require_weights(file: h5py.File) -> None:
    """Raise InputError for a file in which neither Keras 1 and 2 nor Keras 3 keep their weights."""
    root = file.get("model_weights", file)
    legacy = "layer_names" in root.attrs or "layer_names0" in root.attrs
    if not (legacy or {"layers", "_layer_checkpoint_dependencies", "vars"} & set(file)):
        raise InputError("an HDF5 file, but neither a Keras model nor Keras weights\ngive a file that Keras saved")


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Every array that ordinary links lead to, each once; any other kind of link is refused."""
    _read_names(file)
    pending, seen = [file], {h5py.h5o.get_info(file.id).addr}
    while pending:
        group = pending.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = getattr(link, "filename", None) or getattr(link, "path", "")
                raise UnsafeError(
                    f"{group.name.rstrip('/')}/{name}: a link to {str(target)[:80]!r} instead of weights\n"
                    "refused; save the model again into one file"
                )
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                raise UnsafeError(f"more than {MAX_OBJECTS:,} objects in the file\nrefused; no model has as many")
            if isinstance(node, h5py.Group):
                _read_names(node)
                pending.append(node)
            elif isinstance(node, h5py.Dataset):
                yield node


def _read_names(group: h5py.Group) -> None:
    """Read what a loader will read: lists of names can take far more memory than the file has bytes."""
    for name in group.attrs:
        if name.startswith(("layer_names", "weight_names", "name")):
            group.attrs[name]


def _check(dataset: h5py.Dataset) -> int:
    """The bytes of `dataset` where it is a layer's weight, 0 elsewhere; it is read block by block to its end."""
    if dataset.external or dataset.is_virtual:
        raise UnsafeError(f"{dataset.name}: its data are in another file\nrefused; save the model into one file")
    size, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    chunk = dataset.dtype.itemsize
    for length in dataset.chunks or ():
        chunk *= length
    if size > MAX_BYTES or max(size, chunk) > max(RATIO_FLOOR, MAX_RATIO * stored):
        raise UnsafeError(
            f"{dataset.name}: declares {max(size, chunk):,} bytes and stores {stored:,}\nrefused; it is not a weight"
        )
    weight = not dataset.name.startswith("/optimizer")
    for block in _blocks(dataset):
        if weight and block.dtype.kind == "f" and block.size:
            # minimum and maximum both propagate NaN; a comparison with NaN is false
            low, high = float(block.min()), float(block.max())
            if not (low > -float("inf") and high < float("inf")):
                raise InputError(
                    f"layer {_layer(dataset)}: the weight {dataset.name} holds NaN or infinity\n"
                    "the model is damaged or its training diverged; use an earlier checkpoint"
                )
    return size if weight else 0


def _blocks(dataset: h5py.Dataset) -> Iterator[Array]:
    """The values of `dataset`, cut along its first axis into blocks of about `BLOCK` bytes."""
    if dataset.shape is None or dataset.size == 0:
        return
    if not dataset.shape or dataset.nbytes <= BLOCK:
        yield np.asarray(dataset[()])
        return
    row = max(1, dataset.nbytes // dataset.shape[0])
    rows = max(1, BLOCK // row, dataset.chunks[0] if dataset.chunks else 1)
    for start in range(0, dataset.shape[0], rows):
        yield np.asarray(dataset[start : start + rows])


def _layer(dataset: h5py.Dataset) -> str:
    """The layer of a weight: Keras 3 writes its name beside the weight, Keras 1 and 2 name the group after it."""
    name = dataset.parent.attrs.get("name") if dataset.parent is not None else None
    if name is not None:
        return name.decode() if isinstance(name, bytes) else str(name)
    parts = [part for part in dataset.name.split("/") if part and part != "model_weights"]
    return str(parts[-2] if len(parts) > 2 else parts[0])


def _text(file: h5py.File, name: str) -> str | None:
    """A text attribute of the root, or None.

    Its size is checked before it is read, and again after: for some types HDF5 does not state the size beforehand.
    """
    if name not in file.attrs:
        return None
    size = h5py.h5a.open(file.id, name.encode()).get_storage_size()
    value = "" if size > MAX_JSON else file.attrs[name]
    if max(size, len(value)) > MAX_JSON:
        raise UnsafeError(
            f"the attribute {name} has {max(size, len(value)):,} bytes\nrefused; no configuration has as many"
        )
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
