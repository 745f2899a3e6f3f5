"""An HDF5 file looked at from outside: everything in it must be in it, of a sane size, readable, and finite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converter.core.errors import InputError, UnsafeError
from converter.sources.inspection.archive import MAX_JSON

MAX_BYTES = 16 << 30  # of weights
MAX_OBJECTS = 200_000
MAX_RATIO = 20  # declared over stored bytes of an array
RATIO_FLOOR = 16 << 20
BLOCK = 16 << 20
# What h5py raises on bytes that are not what they should be.
ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError)


def inspect(path: Path) -> dict[str, Any]:
    """`attributes` (root: model_config, keras_version, …, as text) and `kind`: "model", "legacy" or "keras3" weights.

    `bytes` is what all arrays of weights hold. Raises UnsafeError for links out of the file and for sizes beyond the
    caps, InputError for what is damaged and for weights that are NaN or infinite, naming the layer.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            total = sum(_check(dataset) for dataset in _datasets(file, h5py))
            attributes = {name: _text(file, name, h5py) for name in ("model_config", "keras_version", "backend")}
            return {"attributes": attributes, "kind": _kind(file, attributes), "bytes": total}
    except ERRORS as error:
        raise InputError(
            f"the HDF5 data cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:150]}\n"
            "the file is damaged; save or download it again"
        ) from error


def _kind(file: Any, attributes: dict[str, str | None]) -> str:
    if attributes["model_config"] is not None:
        return "model"
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return "legacy"
    if {"layers", "_layer_checkpoint_dependencies", "vars"} & set(file):
        return "keras3"
    raise InputError("an HDF5 file, but neither a Keras model nor Keras weights\ngive a file that Keras saved")


def _datasets(file: Any, h5py: Any) -> Iterator[Any]:
    """Every array that is reached by ordinary links, each object once; any other kind of link is refused."""
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


def _read_names(group: Any) -> None:
    """Read what a loader will read: lists of names can take far more memory than the file has bytes."""
    for name in group.attrs:
        if name.startswith(("layer_names", "weight_names", "name")):
            group.attrs[name]


def _check(dataset: Any) -> int:
    """The bytes of `dataset` where it is a layer's weight, else 0; read in blocks, to its end."""
    if dataset.external or dataset.is_virtual:
        raise UnsafeError(f"{dataset.name}: its data lie in another file\nrefused; save the model into one file")
    size, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    chunk = dataset.dtype.itemsize
    for length in dataset.chunks or ():
        chunk *= length
    if size > MAX_BYTES or max(size, chunk) > max(RATIO_FLOOR, MAX_RATIO * stored):
        raise UnsafeError(
            f"{dataset.name}: declares {max(size, chunk):,} bytes and stores {stored:,}\nrefused; that is no weight"
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


def _blocks(dataset: Any) -> Iterator[Any]:
    if dataset.shape is None or dataset.size == 0:
        return
    if not dataset.shape or dataset.nbytes <= BLOCK:
        yield _array(dataset[()])
        return
    row = max(1, dataset.nbytes // dataset.shape[0])
    rows = max(1, BLOCK // row, dataset.chunks[0] if dataset.chunks else 1)
    for start in range(0, dataset.shape[0], rows):
        yield _array(dataset[start : start + rows])


def _array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value)


def _layer(dataset: Any) -> str:
    """The layer that a weight belongs to: Keras 3 notes it beside the weight, Keras 1 and 2 name the group after it."""
    name = dataset.parent.attrs.get("name") if dataset.parent is not None else None
    if name is not None:
        return name.decode() if isinstance(name, bytes) else str(name)
    parts = [part for part in dataset.name.split("/") if part and part != "model_weights"]
    return str(parts[-2] if len(parts) > 2 else parts[0])


def _text(file: Any, name: str, h5py: Any) -> str | None:
    """A text attribute of the root, or None. Its size is looked up before it is read, and after, if HDF5 tells none."""
    if name not in file.attrs:
        return None
    size = h5py.h5a.open(file.id, name.encode()).get_storage_size()
    value = "" if size > MAX_JSON else file.attrs[name]
    if max(size, len(value)) > MAX_JSON:
        raise UnsafeError(
            f"the attribute {name} has {max(size, len(value)):,} bytes\nrefused; no configuration has as many"
        )
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
