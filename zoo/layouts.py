"""The layouts of weight files: which stored array belongs to which variable of a model.

Two layouts of HDF5 exist. Keras 1 and 2 list layer and weight names in attributes; Keras 3 numbers the variables of
every object under the path that leads to it. No array is read or assigned here; see `zoo.weights`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import h5py
import keras
from keras.src.saving import saving_lib

Kind = Literal["missing", "damaged", "mismatch", "nan", "unavailable"]
Stored = tuple[str, list[h5py.Dataset]]
"""A layer in a file: its name and its arrays."""

_TOP_LEVEL = "top_level_model_weights"
_OLD_PREFIX = "_layer_checkpoint_dependencies"  # instead of "layers", in files of TensorFlow 2.12 to 2.15


class WeightsError(ValueError):
    """Weights cannot be loaded; the message has one to three lines, the model is unchanged.

    `kind`: "missing" (no such file), "damaged" (neither readable HDF5 nor a `.keras` archive), "mismatch" (not the
    weights of this model), "nan" (a stored value is NaN or infinite), "unavailable" (not published, or the download
    failed).
    """

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__(message)
        self.kind: Kind = kind


class Pair(NamedTuple):
    """A variable of the model, the name of its layer, and the stored array that is its value."""

    variable: keras.Variable
    layer: str
    dataset: h5py.Dataset


def is_legacy(file: h5py.File) -> bool:
    """Whether this is the layout of Keras 1 and 2, with or without a whole model around the weights."""
    return "layer_names" in _legacy_root(file).attrs or "layer_names0" in _legacy_root(file).attrs


def legacy_pairs(file: h5py.File, model: keras.Model) -> list[Pair]:
    """Pair layers by name where the author named them and both sides have the name, the others by position.

    Names that Keras gives ("conv2d_7") count only if the file has exactly the model's names: they depend on what was
    built before. The weights of a layer are paired by position. Raises WeightsError at the first layer that lacks a
    weight, in the file or in the model.
    """
    root = _legacy_root(file)
    stored = [(name, _legacy_datasets(_group(root, name))) for name in _strings(root, "layer_names")]
    stored = [(name, datasets) for name, datasets in stored if datasets]
    expected = [(layer.name, _legacy_order(layer)) for layer in model.layers]
    expected = [(name, variables) for name, variables in expected if variables]
    own = [*model._trainable_variables, *model._non_trainable_variables]
    if own:
        expected.append((model.name, own))
        stored.append((model.name, _legacy_datasets(_group(root, _TOP_LEVEL)) if _TOP_LEVEL in root else []))

    by_name = dict(stored)
    if len(by_name) == len(stored):
        names = {name for name, _ in expected}
        automatic = set() if by_name.keys() == names else _automatic_names(model)
        stored = _by_name(stored, [name for name, _ in expected], (by_name.keys() & names) - automatic)
    pairs: list[Pair] = []
    for position, (layer, variables) in enumerate(expected):
        name, datasets = stored[position] if position < len(stored) else ("", [])
        for index, variable in enumerate(variables):
            if index >= len(datasets):
                raise _missing(layer, variable, f"in its layer '{name}'" if name else "")
            pairs.append(Pair(variable, layer, datasets[index]))
        if len(datasets) > len(variables):
            raise _surplus(f"'{name}' has {len(datasets)} weights, the model's layer {layer} only {len(variables)}")
    if len(stored) > len(expected):
        raise _surplus(f"{len(stored)} layers with weights, the model {len(expected)}; '{stored[len(expected)][0]}'")
    return pairs


def _automatic_names(model: keras.Model) -> set[str]:
    """The names of layers that Keras gave them: the class, in lower case with underscores, and a number."""
    kinds = {layer.name: keras.src.utils.naming.to_snake_case(type(layer).__name__) for layer in model.layers}
    return {name for name, kind in kinds.items() if re.fullmatch(rf"{re.escape(kind)}(_\d+)?", name)}


def _by_name(stored: list[Stored], expected: list[str], shared: set[str]) -> list[Stored]:
    """`stored` in the order of the names `expected`: those in `shared` by name, the others in their own order."""
    by_name, others = dict(stored), iter([each for each in stored if each[0] not in shared])
    ordered = []
    for name in expected:
        found = (name, by_name[name]) if name in shared else next(others, None)
        if found is not None:
            ordered.append(found)
    return [*ordered, *others]


def keras3_pairs(file: h5py.File, model: keras.Model) -> list[Pair]:
    """Pair every variable with the array at the path to which Keras 3 would save it.

    Raises WeightsError for a variable without a stored array, and for stored arrays that the model does not have.
    """
    plan = _Plan()
    saving_lib._save_state(model, weights_store=plan, assets_store=None, inner_path="", visited_saveables=set())
    unpaired = {id(variable) for variable in model.weights}
    old = _OLD_PREFIX in file
    pairs: list[Pair] = []
    known: set[str] = set()
    for path, (name, entry) in plan.entries.items():
        prefix = f"{path}/vars" if path else "vars"
        known.add(prefix)
        for key, variable in entry.items():
            if id(variable) not in unpaired:
                continue  # a random seed, a metric
            unpaired.discard(id(variable))
            place = prefix.replace("layers", _OLD_PREFIX) if old else prefix
            if f"{place}/{key}" not in file:
                raise _missing(name, variable, f"at {place}/{key}")
            pairs.append(Pair(variable, name, _dataset(file, f"{place}/{key}")))
    for variable in model.weights:
        if id(variable) in unpaired:
            raise WeightsError(
                f"{variable.path} is stored by a method of its layer, which cannot be checked", "mismatch"
            )
    for place, count in _layer_groups(file):
        path = place.replace(_OLD_PREFIX, "layers") if old else place
        entry = plan.entries.get(path.removesuffix("/vars"), ("", {}))[1]
        if count > len(entry) and "seed_generator" not in path:
            raise _surplus(f"{count} arrays at {place}, the model {len(entry)}")
    return pairs


class _Plan(saving_lib.NpzIOStore):  # type: ignore[misc]
    """A store that records where Keras would save each variable, and saves nothing."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[str, dict[str, keras.Variable]]] = {}

    def __bool__(self) -> bool:
        return True

    def make(self, path: str, metadata: dict[str, str] | None = None) -> dict[str, keras.Variable]:
        entry: dict[str, keras.Variable] = {}
        self.entries[path] = (metadata["name"] if metadata else path, entry)
        return entry


def _layer_groups(file: h5py.File) -> Iterator[tuple[str, int]]:
    """Path and number of arrays of every `vars` group below the layers."""
    for top in ("layers", _OLD_PREFIX):
        if top not in file:
            continue
        found: list[tuple[str, int]] = []

        def visit(path: str, node: h5py.HLObject, top: str = top, found: list[tuple[str, int]] = found) -> None:
            if isinstance(node, h5py.Group) and path.rsplit("/", 1)[-1] == "vars":
                found.append((f"{top}/{path}", len(node)))

        _group(file, top).visititems(visit)
        yield from found


def _legacy_root(file: h5py.File) -> h5py.Group:
    return _group(file, "model_weights") if "model_weights" in file else file


def _legacy_order(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Keras 1 and 2 store a layer's trainable weights first."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _legacy_datasets(group: h5py.Group) -> list[h5py.Dataset]:
    return [_dataset(group, name) for name in _strings(group, "weight_names")]


def _strings(group: h5py.Group, name: str) -> list[str]:
    """A list of strings in an attribute, or in `name0`, `name1`, ... where it was too long for one."""
    if name in group.attrs:
        chunks = [group.attrs[name]]
    else:
        chunks = []
        while f"{name}{len(chunks)}" in group.attrs:
            chunks.append(group.attrs[f"{name}{len(chunks)}"])
    return [text.decode() if isinstance(text, bytes) else str(text) for chunk in chunks for text in chunk]


def _group(parent: h5py.Group, path: str) -> h5py.Group:
    node = _local(parent, path)
    if not isinstance(node, h5py.Group):
        raise WeightsError(f"{path} is not a group; the file is damaged", "damaged")
    return node


def _dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    node = _local(parent, path)
    if not isinstance(node, h5py.Dataset):
        raise WeightsError(f"{path} is not an array; the file is damaged", "damaged")
    return node


def _local(parent: h5py.Group, path: str) -> h5py.HLObject:
    """The object at `path`, refused where it is in another file: weights files have no such links."""
    node = parent[path]
    if node.file.id != parent.file.id or (isinstance(node, h5py.Dataset) and (node.external or node.is_virtual)):
        raise WeightsError(f"{path} points to another file, which is not followed", "damaged")
    return node


def _missing(layer: str, variable: keras.Variable, where: str) -> WeightsError:
    shape = tuple(variable.shape)
    return WeightsError(f"layer {layer}: the model's {variable.name} {shape} has no value {where}".rstrip(), "mismatch")


def _surplus(what: str) -> WeightsError:
    return WeightsError(f"the file has more weights than the model: {what}", "mismatch")
