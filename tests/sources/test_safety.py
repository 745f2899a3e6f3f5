"""Files that would run code, reach outside themselves, or declare too much: the inspecting process refuses them."""

from __future__ import annotations

import base64
import io
import json
import marshal
import stat
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

import h5py
import numpy as np
import pytest
from model_files import layer, sequential, weights_file, write_keras, write_legacy

from converter import sources
from converter.core.data import SourceOptions
from converter.core.errors import ChildError, CnnExportError, InputError, UnsafeError
from converter.core.foreign import Json, JsonObject
from converter.sources.files import load_file
from converter.sources.functions import custom_objects
from converter.sources.inspection.inspect import inspect_file
from converter.sources.inspection.protocol import Answer, Request
from converter.sources.inspection.vocabulary import RUNS_CODE

DENSE = layer("Dense", units=2, title="d")


def inspect(path: Path, custom: Collection[str] = (), trust: bool = False) -> Answer:
    directory = path.parent / "unpacked"
    directory.mkdir(exist_ok=True)
    return inspect_file(Request(path, directory, tuple(custom), trust), path.name)


def refused(path: Path, error: type[CnnExportError], *words: str, trust: bool = False) -> str:
    """The message with which `path` is refused, which takes less than ten seconds and at most three lines."""
    start = time.monotonic()
    with pytest.raises(error) as caught:
        inspect(path, trust=trust)
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert message.startswith(path.name)
    assert len(message.splitlines()) <= 3
    assert "Traceback" not in message
    for word in words:
        assert word in message
    return message


def lambda_layer(code: str, title: str = "evil") -> JsonObject:
    """A Lambda whose function is `code`, marshalled as Keras does it."""
    function = eval(code)
    text = base64.encodebytes(marshal.dumps(function.__code__)).decode()
    spelled = {"class_name": "__lambda__", "config": {"code": text, "defaults": None, "closure": None}}
    return layer("Lambda", function=spelled, title=title)


def test_a_harmless_model_passes(tmp_path: Path) -> None:
    answer = inspect(write_keras(tmp_path / "m.keras", sequential(DENSE)))
    assert answer.config is not None
    assert answer.version == "3.15.1"
    assert answer.repairs == ()


@pytest.mark.parametrize("name", sorted(RUNS_CODE))
def test_layers_that_run_code(tmp_path: Path, name: str) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer(name, title="bad")))
    refused(path, UnsafeError, "layer bad", name, "--trust")
    assert inspect(path, trust=True).config is not None


def test_nothing_in_the_file_runs_without_trust(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    evil = lambda_layer(f"lambda x: (open({str(sentinel)!r}, 'w').close(), x)[1]")
    path = write_keras(tmp_path / "m.keras", sequential(evil))
    legacy = write_legacy(tmp_path / "m.h5", {"class_name": "Sequential", "config": [evil]}, {})
    for file in (path, legacy):
        with pytest.raises(UnsafeError, match="layer evil: Lambda runs Python code"):
            sources.load(str(file), SourceOptions())
    assert not sentinel.exists()
    sources.load(str(path), SourceOptions(trust=True))
    assert sentinel.exists()


def hide_in_wrapper(inner: JsonObject) -> JsonObject:
    return layer("TimeDistributed", layer=inner)


def hide_in_model(inner: JsonObject) -> JsonObject:
    return sequential(inner)


def hide_in_argument(inner: JsonObject) -> JsonObject:
    return layer("Dense", units=2, kernel_initializer={"deep": [[{"er": inner}]]})


@pytest.mark.parametrize("hide", [hide_in_wrapper, hide_in_model, hide_in_argument])
def test_code_at_any_depth(tmp_path: Path, hide: Callable[[JsonObject], JsonObject]) -> None:
    hidden = hide(hide(lambda_layer("lambda x: x")))
    refused(write_keras(tmp_path / "m.keras", sequential(hidden)), UnsafeError, "layer evil")


@pytest.mark.parametrize(
    "spelling",
    [
        {"module": None},
        {"module": "keras.src.layers.core.lambda_layer"},
        {"module": "keras"},
        {"registered_name": "Dense"},
        {"class_name": "keras>Lambda"},
    ],
)
def test_a_lambda_in_another_spelling(tmp_path: Path, spelling: JsonObject) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(lambda_layer("lambda x: x") | spelling))
    with pytest.raises((UnsafeError, InputError)):
        inspect(path)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.utils", "get_file"),
        ("keras.saving", "load_model"),
        ("keras.models", "load_model"),
        ("keras.layers", "deserialize"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.src.utils.python_utils", "func_load"),
        ("keras.src.saving.serialization_lib", "SafeModeScope"),
        ("keras.optimizers", "Adam"),
        ("keras.src.ops.numpy", "os"),
        ("keras.src.ops.numpy", "KerasTensor"),
        ("keras.src.ops.operation", "Operation"),
        ("keras.src.ops.numpy_test", "NumpyOneInputOpsCorrectnessTest"),
    ],
)
def test_what_belongs_to_keras_but_is_not_a_layer(tmp_path: Path, module: str, name: str) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer(name, module, title="odd")))
    refused(path, UnsafeError, "layer odd", f"{module}.{name}")
    refused(path, UnsafeError, trust=True)


@pytest.mark.parametrize(
    "function",
    [
        {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"},
        {"class_name": "function", "config": "eval", "module": "builtins", "registered_name": "eval"},
        {"class_name": "function", "config": "get_file", "module": "keras.utils", "registered_name": "get_file"},
        {"class_name": "__typespec__", "config": [], "module": "tensorflow", "registered_name": "TensorSpec"},
    ],
)
def test_function_objects(tmp_path: Path, function: JsonObject) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer("Dense", units=2, activation=function, title="d")))
    with pytest.raises((UnsafeError, InputError), match="layer d: "):
        inspect(path)


def _constant(array: JsonObject) -> JsonObject:
    """An initializer with the value `array`."""
    return {"module": "keras.initializers", "class_name": "Constant", "config": {"value": array}}


@pytest.mark.parametrize("dtype", ["S2000000000", "O", "V9", "str", ["a"], None])
def test_arrays_of_other_elements_than_numbers(tmp_path: Path, dtype: Json) -> None:
    array: JsonObject = {"class_name": "__numpy__", "config": {"value": [1.0], "dtype": dtype}}
    dense = layer("Dense", units=2, title="d", kernel_initializer=_constant(array))
    refused(write_keras(tmp_path / "m.keras", sequential(dense)), UnsafeError, "layer d", "an array of the type")
    array["config"]["dtype"] = "float32"
    numbers = layer("Dense", units=2, kernel_initializer=_constant(array))
    assert inspect(write_keras(tmp_path / "n.keras", sequential(numbers)))


def test_an_operation_that_asks_for_any_amount_of_memory(tmp_path: Path) -> None:
    """Nested, and before anything is computed; 4 TB for one sample."""
    import keras

    image = keras.Input((4, 4, 3))
    inner = keras.Model(image, keras.ops.mean(keras.ops.tile(image, [1, 10**4, 10**4, 1]), axis=(1, 2)))
    again = keras.Input((4, 4, 3))
    keras.Model(again, inner(again)).save(tmp_path / "giant.keras")
    with pytest.raises(UnsafeError, match=r"operation Tile \w+: declares 4,800,000,000 values for one sample"):
        load_file(str(tmp_path / "giant.keras"), SourceOptions())


def test_custom_objects_are_those_of_the_modules_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a module imports from elsewhere is nothing that a file may call."""
    (tmp_path / "my_helpers.py").write_text("def halved(x):\n    return x / 2\n")
    (tmp_path / "my_own_layers.py").write_text(
        "from shutil import rmtree\nfrom os.path import join\nfrom my_helpers import halved\n\n\n"
        "def doubled(x):\n    return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = custom_objects(("my_own_layers",))
    assert {"doubled", "halved"} <= set(found)
    assert not {"rmtree", "join"} & set(found)


def test_keras_own_activations_may_be_function_objects(tmp_path: Path) -> None:
    relu = {"class_name": "function", "config": "relu", "module": "builtins", "registered_name": "relu"}
    assert inspect(write_keras(tmp_path / "m.keras", sequential(layer("Activation", activation=relu))))


def test_classes_outside_keras_need_custom_objects(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer("Scale", "my_package.nets", title="s")))
    refused(path, InputError, "layer s", "Scale of my_package.nets", "--custom-objects my_package")
    assert inspect(path, custom=["Scale"]).config is not None


@pytest.mark.parametrize("name", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_vocabularies_that_are_paths(tmp_path: Path, name: str) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer(name, vocabulary="/etc/passwd", title="words")))
    refused(path, UnsafeError, "layer words", "'/etc/passwd'", trust=True)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "assets/../../evil", "code.py", "model.weights.npz", "a\\b"])
def test_unexpected_members(tmp_path: Path, name: str) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(DENSE), extra={name: b"x"})
    refused(path, UnsafeError, repr(name), trust=True)
    assert not (tmp_path.parent / "evil").exists()


def test_a_member_that_is_a_symbolic_link(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(DENSE))
    link = zipfile.ZipInfo("assets/words")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(path, UnsafeError, "assets/words", "symbolic link")


def test_a_member_that_occurs_twice(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(DENSE))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", "{}")
    refused(path, UnsafeError, "config.json", "twice")


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_zip_bombs(tmp_path: Path, member: str) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "model.weights.h5"):
            with archive.open(name, "w") as target:
                for _ in range(60 if name == member else 1):
                    target.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    refused(path, UnsafeError, member, "decompression bomb")


def test_a_member_longer_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(sequential(DENSE)))
        archive.writestr("model.weights.h5", bytes(40 << 20))
    data = bytearray(path.read_bytes())
    offset = data.rindex(b"PK\x01\x02")
    data[offset + 24 : offset + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with pytest.raises((InputError, UnsafeError)):
        inspect(path)


def hdf5_with(change: Callable[[h5py.File], None]) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 2), np.float32)
        file["layers/dense/vars"].attrs["name"] = "head"
        change(file)
    return stream.getvalue()


def external_link(file: h5py.File) -> None:
    file["layers/dense/vars/1"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file: h5py.File) -> None:
    file["layers/dense/vars/1"] = h5py.SoftLink("/layers/dense/vars/0")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("layers/x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("layers/x", layout)


def never_written(file: h5py.File) -> None:
    file.create_dataset("layers/x", (1 << 32,), "f4", chunks=(1 << 20,))


def compressed_zeros(file: h5py.File) -> None:
    file.create_dataset("layers/x", data=np.zeros(20 << 20, np.float32), chunks=(20 << 20,), compression="gzip")


def one_huge_chunk(file: h5py.File) -> None:
    file.create_dataset("layers/x", (16,), "f4", maxshape=(None,), chunks=(900 << 20,))


@pytest.mark.parametrize(
    "change",
    [external_link, soft_link, external_storage, virtual_dataset, never_written, compressed_zeros, one_huge_chunk],
)
def test_hdf5_that_reaches_outside_or_declares_too_much(tmp_path: Path, change: Callable[[h5py.File], None]) -> None:
    data = hdf5_with(change)
    assert len(data) < 1 << 20
    bare = tmp_path / "m.weights.h5"
    bare.write_bytes(data)
    refused(bare, UnsafeError, "refused")
    refused(write_keras(tmp_path / "m.keras", sequential(DENSE), data), UnsafeError, "refused", trust=True)


def nan(file: h5py.File) -> None:
    file["layers/dense/vars/0"][1, 1] = np.nan


def infinite(file: h5py.File) -> None:
    file["layers/dense/vars/0"][0, 0] = -np.inf


@pytest.mark.parametrize("change", [nan, infinite])
def test_weights_that_are_not_finite(tmp_path: Path, change: Callable[[h5py.File], None]) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(DENSE), hdf5_with(change))
    refused(path, InputError, "layer head", "NaN or infinity")


def test_nan_in_an_optimizer_is_accepted(tmp_path: Path) -> None:
    data = hdf5_with(lambda file: file.__setitem__("optimizer/vars/1", np.array([np.nan])))
    assert inspect(write_keras(tmp_path / "m.keras", sequential(DENSE), data)).weight_bytes == 24


def good(tmp_path: Path) -> bytes:
    return write_keras(
        tmp_path / "good.keras", sequential(DENSE), weights_file({"layers/d/vars/0": np.ones(5000)})
    ).read_bytes()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: b"\x00\xff" * 500, "neither a Keras archive nor HDF5"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:20000] + bytes([data[20000] ^ 1]) + data[20001:], "CRC"),
        (lambda data: b"\x89HDF\r\n\x1a\n" + bytes(500), "HDF5"),
        (lambda data: b"PK\x05\x06" + bytes(18), "config.json is missing"),
    ],
)
def test_damaged_files(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(damage(good(tmp_path)))
    refused(path, InputError, words)


def end(data: bytes) -> int:
    return data.rindex(b"PK\x05\x06")


def directory(data: bytes) -> int:
    return data.rindex(b"PK\x01\x02")


@pytest.mark.parametrize(
    "place",
    [
        lambda data: end(data) + 17,  # where the central directory is
        lambda data: directory(data) + 10,  # how a member is compressed
        lambda data: directory(data) + 50,  # what it is called
        lambda data: data.index(b'"class_name"') + 5,
        lambda data: data.index(b"\x89HDF") + 1,
    ],
)
def test_one_flipped_bit_anywhere_is_detected(tmp_path: Path, place: Callable[[bytes], int]) -> None:
    data = bytearray(good(tmp_path))
    data[place(data)] ^= 0x10
    path = tmp_path / "m.keras"
    path.write_bytes(data)
    with pytest.raises((InputError, UnsafeError)):
        inspect(path)


def test_a_configuration_beyond_the_cap_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" + "[]," * 8_000_000)
        archive.writestr("model.weights.h5", weights_file())
    refused(path, UnsafeError, "config.json declares 24,000,001 bytes")
    text = json.dumps({"class_name": "Sequential", "config": {"x": "y" * (17 << 20)}})
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = text
    refused(tmp_path / "m.h5", UnsafeError, "model_config")


@pytest.mark.parametrize("version", ["9" * 5000, ["3"], "\x1b[31m3", "\N{SUPERSCRIPT TWO}.0"])
def test_text_that_is_not_a_version_is_dropped(tmp_path: Path, version: Json) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(DENSE))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = json.dumps({"keras_version": version}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert inspect(path).version is None


NAME = "a\n::error::b\x1b[31m<img onerror=x>\u202e##[error]" + "y" * 10_000


@pytest.mark.parametrize(
    "bad",
    [
        layer("TFSMLayer", title=NAME),
        layer(NAME, NAME, title="s"),
        layer(NAME, "keras.layers", title="s"),
        layer("Dense", activation={"class_name": "function", "config": NAME, "module": NAME}, title="s"),
        layer("StringLookup", vocabulary=NAME, title="s"),
    ],
)
def test_names_in_a_message_are_text_on_its_first_line(tmp_path: Path, bad: JsonObject) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(bad))
    with pytest.raises((InputError, UnsafeError)) as caught:
        inspect(path)
    lines = str(caught.value).split("\n")
    assert len(lines) <= 3
    assert lines[0].startswith("m.keras: layer ")
    assert all(line.isprintable() and len(line) < 600 and "##[" not in line for line in lines)
    assert not any(line.lstrip().startswith("::") for line in lines)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', "[" * 100_000, '{"class_name": 5, "config": {}}', "\xff"])
def test_configurations_that_do_not_describe_a_model(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text.encode("latin-1"))
        archive.writestr("model.weights.h5", weights_file())
    refused(path, InputError)


def test_deep_nesting_and_many_layers(tmp_path: Path) -> None:
    deep: Json = 1
    for _ in range(300):
        deep = [deep]
    refused(write_keras(tmp_path / "d.keras", sequential(layer("Dense", units=deep))), InputError, "nested deeper")
    wide = sequential(*[layer("Flatten", title=f"f{index}") for index in range(20_001)])
    refused(write_keras(tmp_path / "w.keras", wide), UnsafeError, "20,002 layers")


def test_a_child_that_dies_or_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(DENSE))
    monkeypatch.setattr("converter.sources.inspection.inspect.WAITING", -2)
    assert "malicious" not in refused(path, ChildError, "took too long, more than -2 s")
    monkeypatch.undo()
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    refused(path, ChildError, "status -11")
    dying.write_text("#!/bin/sh\nkill -XCPU $$\n")
    assert "malicious" not in refused(path, ChildError, "took too long, more than 20 s of processor time")


def test_a_machine_that_is_busy_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes no processor time: a child that only starts after ten seconds still reads the file."""
    import keras

    path = tmp_path / "m.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\nsleep 11\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    assert sources.load(str(path), SourceOptions()).model is not None


def test_directories_and_pipes(tmp_path: Path) -> None:
    directory = tmp_path / "model.keras"
    directory.mkdir()
    with pytest.raises(InputError, match="a directory, not a file"):
        sources.load(str(directory), SourceOptions())
    with pytest.raises(InputError, match="not a regular file"):
        sources.load("/dev/zero", SourceOptions())
