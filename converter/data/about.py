"""What belongs to a model beside its graph: preprocessing and labels, and their form inside of artifacts.

A model file may have a `NAME.about.json` beside it, which `cnnexport train` writes; it counts only for the file whose
sha256 it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.core.errors import InputError
from converter.core.files import sha256_of
from converter.core.foreign import Json, JsonObject
from converter.core.jsonable import Fields, dumps, plain, read_json
from converter.data.labels import checked, read_labels
from converter.data.preprocessing import Preprocessing, given, of_model

PREPROCESSING, LABELS, INTERFACE = "cnnexport.preprocessing", "cnnexport.labels", "cnnexport.interface"
"""Keys of ONNX's metadata_props and of TFLite's custom metadata; the values are JSON."""
LABEL_FILE, ABOUT_FILE = "labels.txt", "cnnexport.json"
"""Files in a TFLite file's archive and in a SavedModel's assets.extra."""
SUFFIX = ".about.json"
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class About:
    """The preprocessing as in the manifest (empty where it is unknown), and a label for each class or none.

    `training` says how the model was trained.
    """

    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    training: Mapping[str, Json] = field(default_factory=dict)

    def require(self, where: str) -> Preprocessing | None:
        """The preprocessing, None where it is unknown. Raises InputError for a damaged one."""
        return of_model(self.preprocessing, where)


def check_given(preprocessing: str | None, labels: str | None) -> None:
    """Read what the user gave, before anything is loaded. Raises UsageError and InputError for what is wrong."""
    if preprocessing is not None:
        given(preprocessing, {})
    if labels is not None:
        read_labels(labels)


def text_entries(about: Mapping[str, Json], interface: Mapping[str, Json]) -> dict[str, str]:
    """Key and JSON text of everything that is written into an artifact; `about` are fields of `About`."""
    found = {PREPROCESSING: about.get("preprocessing"), LABELS: about.get("labels"), INTERFACE: interface}
    return {key: json.dumps(plain(value), sort_keys=True) for key, value in found.items() if value}


def from_entries(entries: Mapping[str, str], where: str) -> tuple[About, Json]:
    """What `text_entries` wrote, from an untrusted file: the `About`, and the interface, None where there is none.

    Raises InputError where it is damaged.
    """
    values: dict[str, Json] = {}
    for key in (PREPROCESSING, LABELS, INTERFACE):
        if key in entries:
            try:
                values[key] = json.loads(entries[key])
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: its metadata {key} are not JSON; export the model again") from error
    labels = values.get(LABELS, [])
    preprocessing = values.get(PREPROCESSING, {})
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise InputError(f"{where}: its metadata {LABELS} are not a list of names; export the model again")
    if not isinstance(preprocessing, dict):
        raise InputError(f"{where}: its metadata {PREPROCESSING} are not an object; export the model again")
    return About(preprocessing, checked(labels, where) if labels else ()), values.get(INTERFACE)


def beside(path: Path) -> Path:
    """The file that describes the model file `path`."""
    return path.with_name(path.stem + SUFFIX)


def write_beside(path: Path, about: About) -> None:
    """Write the description of the model file `path`. Raises OSError where the disk refuses."""
    beside(path).write_text(dumps({"sha256": sha256_of(path), **_plain(about)}), encoding="ascii")


def read_beside(path: Path, sha256: str) -> About | None:
    """The description of the model file `path`, whose hash is `sha256`; None where there is none of this file.

    Raises InputError where it is damaged.
    """
    file = beside(path)
    if not file.is_file():
        return None
    fields = Fields(read_json(file, MAX_BYTES, "a description of a model"), str(file))
    if fields.get("sha256", str) != sha256:
        return None
    labels = list(fields.strings("labels"))
    return About(
        fields.get("preprocessing", dict, {}),
        checked(labels, str(file)) if labels else (),
        fields.get("training", dict, {}),
    )


def _plain(about: About) -> JsonObject:
    return {"preprocessing": about.preprocessing, "labels": about.labels, "training": about.training}
