"""Attacks in a model file: `.keras`, HDF5, weights."""

from __future__ import annotations

import base64
import io
import json
import marshal
import stat
import warnings
import zipfile
from typing import Any

import h5py
import numpy as np
from attack import Place, attack
from model_files import layer, sequential, weights_file, write_keras, write_legacy

EXPORT = ["--format", "onnx", "--quiet"]
ALLOWED = "the inspection before Keras: classes are allowed by name"
MEMBERS = "the inspection of the archive"
STORAGE = "the inspection of the HDF5 file"
SIZES = "the count of every output before anything is built"


def exported(
    place: Place, *layers: Any, weights: bytes | None = None, extra: dict[str, bytes] | None = None
) -> list[str]:
    """A `.keras` file with `layers`, and the arguments that export it."""
    write_keras(place.work / "evil.keras", sequential(*layers), weights, extra)
    return ["./evil.keras", *EXPORT]


def creating(place: Place) -> dict[str, Any]:
    """A Lambda that creates the target as soon as it is called, marshalled as Keras does it."""
    function = eval(f"lambda x: (open({str(place.target)!r}, 'w').close(), x)[1]")
    code = base64.encodebytes(marshal.dumps(function.__code__)).decode()
    spelled = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    return layer("Lambda", function=spelled, title="evil")


@attack(".keras", "a Lambda with marshalled Python", 4, "layer evil: Lambda runs Python code", ALLOWED)
def lambda_in_an_archive(place: Place) -> list[str]:
    return exported(place, creating(place))


@attack(".h5", "a Lambda in HDF5, where Keras has no safe mode", 4, "layer evil: Lambda runs Python code", ALLOWED)
def lambda_in_hdf5(place: Place) -> list[str]:
    write_legacy(place.work / "evil.h5", {"class_name": "Sequential", "config": [creating(place)]}, {})
    return ["./evil.h5", *EXPORT]


@attack(".keras", "a Lambda inside an argument of a layer inside a model inside a wrapper", 4, "layer evil", ALLOWED)
def lambda_in_depth(place: Place) -> list[str]:
    hidden = layer("Dense", units=2, kernel_initializer={"deep": [[{"er": creating(place)}]]})
    return exported(place, layer("TimeDistributed", layer=sequential(hidden)))


@attack(".keras", "a Lambda under the registered name of another layer", 4, "evil", ALLOWED)
def lambda_with_another_name(place: Place) -> list[str]:
    return exported(place, creating(place) | {"registered_name": "Dense"})


@attack(".keras", "any function of any module as an activation, `os.system`", 4, "layer d", ALLOWED)
def function_of_the_system(place: Place) -> list[str]:
    function = {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}
    return exported(place, layer("Dense", units=2, activation=function, title="d"))


@attack(".keras", "a class of any module as a layer, with arguments that run a command", 3, "Popen", ALLOWED)
def class_of_the_system(place: Place) -> list[str]:
    config = {"args": ["touch", str(place.target)]}
    return exported(place, {"module": "subprocess", "class_name": "Popen", "config": config, "registered_name": None})


@attack(".keras", "`keras.utils.get_file`, which downloads and unpacks", 4, "keras.utils.get_file", ALLOWED)
def download_as_a_layer(place: Place) -> list[str]:
    own = {"fname": str(place.target), "origin": place.secret.as_uri(), "title": "odd"}
    return exported(place, layer("get_file", "keras.utils", **own))


@attack(".keras", "a call that switches Keras's safe mode off, before a Lambda", 4, "unsafe", ALLOWED)
def safe_mode_switched_off(place: Place) -> list[str]:
    return exported(place, layer("enable_unsafe_deserialization", "keras.config", title="first"), creating(place))


@attack(".keras", "a module that a module of Keras imports, `keras.src.ops.numpy.os`", 4, "layer odd", ALLOWED)
def module_in_a_module(place: Place) -> list[str]:
    return exported(place, layer("os", "keras.src.ops.numpy", title="odd"))


@attack(".keras", "a PyTorch module that is unpickled", 4, "TorchModuleWrapper", ALLOWED)
def pickle_of_another_library(place: Place) -> list[str]:
    return exported(place, layer("TorchModuleWrapper", module="gASVAAAA", title="torch"))


@attack(".keras", "a layer that loads a SavedModel from any path", 4, "TFSMLayer", ALLOWED)
def saved_model_as_a_layer(place: Place) -> list[str]:
    return exported(place, layer("TFSMLayer", filepath=str(place.outside), title="tfsm"))


@attack(".keras", "a vocabulary that is a path: the file's lines come back as words", 4, "layer words", ALLOWED)
def vocabulary_that_is_a_path(place: Place) -> list[str]:
    return exported(place, layer("StringLookup", vocabulary=str(place.secret), title="words"))


@attack(".keras", "a member that unpacks beside the directory", 4, "../outside/created", MEMBERS)
def member_that_leaves(place: Place) -> list[str]:
    return exported(place, layer("ReLU"), extra={"../outside/created": b"x"})


@attack(".keras", "a member that is a symbolic link", 4, "symbolic link", MEMBERS)
def member_that_is_a_link(place: Place) -> list[str]:
    arguments = exported(place, layer("ReLU"))
    link = zipfile.ZipInfo("assets/words")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(place.work / "evil.keras", "a") as archive:
        archive.writestr(link, str(place.secret))
    return arguments


@attack(".keras", "two configurations, one for the inspection and one for Keras", 4, "twice", MEMBERS)
def two_configurations(place: Place) -> list[str]:
    arguments = exported(place, layer("ReLU"))
    with zipfile.ZipFile(place.work / "evil.keras", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("config.json", json.dumps(sequential(creating(place))))
    return arguments


@attack(".keras", "60 MB of zeros in 60 kB", 4, "decompression bomb", MEMBERS)
def decompression_bomb(place: Place) -> list[str]:
    with zipfile.ZipFile(place.work / "evil.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in (("config.json", 1), ("model.weights.h5", 60)):
            archive.writestr(name, bytes(size << 20))
    return ["./evil.keras", *EXPORT]


@attack(
    ".keras",
    "lists nested a hundred thousand deep",
    3,
    "nested",
    "the reader of the configuration, before it is parsed",
)
def nested_without_end(place: Place) -> list[str]:
    arguments = exported(place, layer("ReLU"))
    text = json.dumps(sequential(layer("Dense", units="HERE"))).replace('"HERE"', "[" * 100_000 + "]" * 100_000)
    with zipfile.ZipFile(place.work / "evil.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", weights_file())
    return arguments


@attack(
    ".keras", "a layer of 77 GB", 4, "its layers declare 77,200,000,000 bytes", "weights that the file does not hold"
)
def layer_of_any_size(place: Place) -> list[str]:
    return exported(place, layer("Flatten"), layer("Dense", units=10**8, title="wide"))


@attack(".keras", "a few bytes that ask for 4 TB: an operation that repeats its input", 4, "operation Tile", SIZES)
def operation_of_any_size(place: Place) -> list[str]:
    import keras

    image = keras.Input((4, 4, 3))
    tiled = keras.ops.mean(keras.ops.tile(image, [1, 10**4, 10**4, 1]), axis=(1, 2))
    keras.Model(image, tiled).save(place.work / "evil.keras")
    return ["./evil.keras", *EXPORT]


@attack(".keras", "an array of one element of 2 GB", 4, "an array of the type", ALLOWED)
def element_of_any_size(place: Place) -> list[str]:
    array = {"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "S2000000000"}}
    constant = {"module": "keras.initializers", "class_name": "Constant", "config": {"value": array}}
    return exported(place, layer("Dense", units=2, title="d", kernel_initializer=constant))


def weights(change: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 2), np.float32)
        change(file)
    return stream.getvalue()


@attack("weights", "a link to another file, whose content becomes a weight", 4, "refused", STORAGE)
def external_link(place: Place) -> list[str]:
    return exported(place, layer("ReLU"), weights=weights(
        lambda file: file.__setitem__("layers/x", h5py.ExternalLink(str(place.secret), "/"))
    ))  # fmt: skip


@attack("weights", "the bytes of any file as the storage of a weight", 4, "refused", STORAGE)
def external_storage(place: Place) -> list[str]:
    return exported(place, layer("ReLU"), weights=weights(
        lambda file: file.create_dataset("layers/x", (4,), "f4", external=[(str(place.secret), 0, 16)])
    ))  # fmt: skip


@attack("weights", "a virtual dataset over another file", 4, "refused", STORAGE)
def virtual_storage(place: Place) -> list[str]:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(place.secret), "x", (4,))
    data = weights(lambda file: file.create_virtual_dataset("layers/x", layout))
    return exported(place, layer("ReLU"), weights=data)


@attack("weights", "16 GB that were never written", 4, "refused", STORAGE)
def weights_never_written(place: Place) -> list[str]:
    data = weights(lambda file: file.create_dataset("layers/x", (1 << 32,), "f4", chunks=(1 << 20,)))
    return exported(place, layer("ReLU"), weights=data)


@attack("weights", "NaN in a weight, so that every comparison is false", 3, "NaN", "the inspection of the weights")
def weights_that_are_nan(place: Place) -> list[str]:
    def spoil(file: Any) -> None:
        file["layers/dense/vars/0"][0, 0] = np.nan

    return exported(place, layer("Dense", units=2, title="dense"), weights=weights(spoil))


@attack("names", "escape sequences and CI commands in the name of a layer", 4, "Lambda runs Python code",
        "names are shown as text")  # fmt: skip
def name_that_commands(place: Place) -> list[str]:
    return exported(place, layer("Lambda", title="\x1b[2J\n::error::passed\n##[error]x"))
