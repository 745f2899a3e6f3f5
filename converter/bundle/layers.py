"""layers.json: sketches of Keras's activations, and for each artifact the tensors that must be equal to them.

Written at export and read only after a failed verification. The file is untrusted, so types, order and sizes are
checked. Each activation is stored once; the layers of the artifacts refer to it by index. Sketches of another schema
version cannot be compared with those of this version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.core.data import Array
from converter.core.errors import OutputError
from converter.core.jsonable import Fields, dumps, read_json
from converter.core.sketch import CHANNELS_FIRST, KERAS_LAYOUT, from_text, to_text

LAYERS = "layers.json"
SCHEMA = 3
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Layer:
    """A place where an artifact can be compared with Keras: the end of one layer, or of several that became one node.

    `name` is the layer that is named if the comparison fails here. `covers` are all layers computed since `inputs`, as
    (name, class). `inputs` are indices of earlier entries in the list of layers; empty if only the model's inputs are
    read. `tensor` is the name of the tensor in the artifact, stored in `layout`. `elements` is the size of one sample.
    `noise` is the relative L2 distance of Keras in float32 from float64 (None: not measured). `sketch` has shape
    (samples, 64).
    """

    name: str
    kind: str
    covers: tuple[tuple[str, str], ...]
    inputs: tuple[int, ...]
    tensor: str
    layout: str
    elements: int
    noise: float | None
    sketch: Array


@dataclass(frozen=True)
class Layers:
    """The content of layers.json: sketches of the golden inputs by name, and the layers of each artifact by path."""

    inputs: Mapping[str, Array]
    artifacts: Mapping[str, tuple[Layer, ...]]


def write_layers(directory: Path, layers: Layers) -> None:
    """Write `directory`/layers.json. Raises OutputError."""
    activations: dict[tuple[str, int, float | None], int] = {}  # index by activation
    artifacts = []
    for path, found in layers.artifacts.items():
        rows = []
        for layer in found:
            row = dict(vars(layer))
            key = (to_text(row.pop("sketch")), row.pop("elements"), row.pop("noise"))
            rows.append({**row, "activation": activations.setdefault(key, len(activations))})
        artifacts.append({"path": path, "layers": rows})
    text = dumps(
        {
            "schema": SCHEMA,
            "inputs": {name: to_text(each) for name, each in layers.inputs.items()},
            "activations": [{"sketch": key[0], "elements": key[1], "noise": key[2]} for key in activations],
            "artifacts": artifacts,
        }
    )
    try:
        (directory / LAYERS).write_text(text, encoding="ascii")
    except OSError as error:
        raise OutputError(f"{directory / LAYERS}: {error.strerror or error}") from error


def read_layers(directory: Path) -> Layers:
    """The content of `directory`/layers.json.

    Raises InputError if the file is missing, damaged or of another schema version.
    """
    path = directory / LAYERS
    top = Fields(read_json(path, MAX_BYTES, "a layers.json of cnnexport; export the model again"), str(path))
    schema = top.get("schema", int)
    if schema != SCHEMA:
        raise top.wrong("schema", f"{SCHEMA}, the only version that this cnnexport reads")
    inputs = Fields(top.get("inputs", dict), f"{top.where}: inputs")
    activations = top.items("activations")
    artifacts = {
        each.get("path", str): tuple(_layers(each.items("layers"), activations)) for each in top.items("artifacts")
    }
    return Layers({name: _sketch(inputs, name) for name in inputs.value}, artifacts)


def _layers(rows: Sequence[Fields], activations: Sequence[Fields]) -> Iterator[Layer]:
    """The layers of one artifact."""
    for index, row in enumerate(rows):
        place = row.get("activation", int)
        if not 0 <= place < len(activations):
            raise row.wrong("activation", "the index of an activation")
        yield _layer(row, activations[place], index)


def _layer(fields: Fields, activation: Fields, index: int) -> Layer:
    covers = fields.get("covers", list)
    if not covers or not all(_is_string_list(pair) and len(pair) == 2 for pair in covers):
        raise fields.wrong("covers", "a list of pairs of strings")
    inputs = fields.get("inputs", list)
    if not all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < index for each in inputs):
        raise fields.wrong("inputs", "indices of earlier layers")
    layout, noise = fields.get("layout", str), activation.get("noise", (int, float), None)
    if layout not in (KERAS_LAYOUT, CHANNELS_FIRST):
        raise fields.wrong("layout", f'"{KERAS_LAYOUT}" or "{CHANNELS_FIRST}"')
    if noise is not None and not 0 <= noise < np.inf:
        raise activation.wrong("noise", "a number of at least 0, or null")
    return Layer(
        name=fields.get("name", str),
        kind=fields.get("kind", str),
        covers=tuple((name, kind) for name, kind in covers),
        inputs=tuple(inputs),
        tensor=fields.get("tensor", str),
        layout=layout,
        elements=max(1, activation.get("elements", int)),
        noise=None if noise is None else float(noise),
        sketch=_sketch(activation, "sketch"),
    )


def _is_string_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)


def _sketch(fields: Fields, key: str) -> Array:
    try:
        values = from_text(fields.get(key, str))
    except ValueError as error:
        raise fields.wrong(key, f"a sketch ({error})") from error
    if not np.isfinite(values).all():
        raise fields.wrong(key, "finite numbers")
    return values
