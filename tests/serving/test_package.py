"""Packages for servers: the proven bytes are linked, and the files beside them parse as what the server reads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import converter
from converter.bundle.manifest import read_manifest
from converter.core.data import Artifact, TensorSpec
from converter.core.errors import InputError, OutputError, ParityError, UsageError
from converter.serving.package import LAYOUTS, package
from converter.serving.triton import config, quoted

yaml = pytest.importorskip("yaml")


def model_config() -> Any:
    """The message ModelConfig of Triton, its fields with the names, types and numbers of model_config.proto."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="triton", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    names = ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
             "FP32", "FP64", "STRING", "BF16")  # fmt: skip
    for number, name in enumerate(names):
        types.value.add(name=f"TYPE_{name}", number=number)
    layouts = file.enum_type.add(name="Format")
    for number, name in enumerate(("NONE", "NHWC", "NCHW")):
        layouts.value.add(name=f"FORMAT_{name}", number=number)
    messages: dict[str, list[tuple[str, int, Any, bool]]] = {
        "ModelTensorReshape": [("shape", 1, field.TYPE_INT64, True)],
        "ModelInput": [
            ("name", 1, field.TYPE_STRING, False), ("data_type", 2, "DataType", False), ("format", 3, "Format", False),
            ("dims", 4, field.TYPE_INT64, True), ("reshape", 5, "ModelTensorReshape", False),
        ],
        "ModelOutput": [
            ("name", 1, field.TYPE_STRING, False), ("data_type", 2, "DataType", False),
            ("dims", 3, field.TYPE_INT64, True), ("label_filename", 4, field.TYPE_STRING, False),
            ("reshape", 5, "ModelTensorReshape", False),
        ],
        "ModelDynamicBatching": [("preferred_batch_size", 1, field.TYPE_INT32, True)],
        "ModelConfig": [
            ("name", 1, field.TYPE_STRING, False), ("platform", 2, field.TYPE_STRING, False),
            ("max_batch_size", 4, field.TYPE_INT32, False), ("input", 5, "ModelInput", True),
            ("output", 6, "ModelOutput", True), ("dynamic_batching", 11, "ModelDynamicBatching", False),
        ],
    }  # fmt: skip
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for title, number, kind, repeated in fields:
            added = message.field.add(name=title, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                added.type = field.TYPE_ENUM if kind in ("DataType", "Format") else field.TYPE_MESSAGE
                added.type_name = f".triton.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.ModelConfig"))


def parsed(text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, model_config()())


def labelled(directory: Path, repair: Callable[[Path, str], None]) -> None:
    """Give the five classes of the first output labels."""
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["labels"] = ["cat", "dog", "a\nbird", "fish", "cow"]
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("server", list(LAYOUTS))
def test_the_proven_bytes_are_linked(server: str, copied: Path, tmp_path: Path) -> None:
    made = package(copied, server, tmp_path / "out" / "deep")
    known = {each.sha256 for each in read_manifest(copied).files.values()}
    linked = [name for name, how in made.files.items() if how == "linked"]
    assert linked
    for name in linked:
        path = tmp_path / "out" / "deep" / name
        assert path.stat().st_nlink > 1
        if path.name not in ("manifest.json", "report.json") and server != "oci":
            assert hashlib.sha256(path.read_bytes()).hexdigest() in known
    found = {path.relative_to(made.directory).as_posix() for path in Path(made.directory).rglob("*") if path.is_file()}
    assert found == set(made.files)
    assert converter.verify(copied, runtimes="onnxruntime").verdict == "pass"
    copy = package(copied, server, tmp_path / "copied-out", copy=True)
    assert "linked" not in copy.files.values()


@pytest.mark.parametrize(("form", "platform"), [("onnx", "onnxruntime_onnx"), ("saved-model", "tensorflow_savedmodel")])
def test_triton(form: str, platform: str, copied: Path, tmp_path: Path, repair: Callable[[Path, str], None]) -> None:
    labelled(copied, repair)
    package(copied, "triton", tmp_path / "out", form=form, version=3, max_batch=16)
    found = parsed((tmp_path / "out/two_heads/config.pbtxt").read_text())
    assert (found.name, found.platform, found.max_batch_size) == ("two_heads", platform, 16)
    assert [(each.name, list(each.dims), each.data_type) for each in found.input] == [("image", [32, 32, 3], 11)]
    assert [(each.name, list(each.dims)) for each in found.output] == [("main", [5]), ("aux", [3])]
    assert [each.label_filename for each in found.output] == ["labels.txt", ""]
    assert found.HasField("dynamic_batching")
    assert (tmp_path / "out/two_heads/labels.txt").read_text().splitlines()[2] == "a bird"
    assert (tmp_path / "out/two_heads/3").is_dir()


def test_triton_with_a_fixed_batch_a_scalar_and_odd_names() -> None:
    def made(*shapes: tuple[int | None, ...]) -> Any:
        specs = tuple(TensorSpec(f'a"\n\\é{number}', shape) for number, shape in enumerate(shapes))
        return parsed(config(Artifact("onnx", "m", "float32", specs, specs, {}, 1, 0.0), "m", 8))

    fixed = made((4, 8, 8, 3))
    assert (fixed.max_batch_size, list(fixed.input[0].dims)) == (0, [4, 8, 8, 3])
    assert not fixed.HasField("dynamic_batching")
    assert fixed.input[0].name == 'a"\n\\é0'
    free = made((None, None, 3), (None,))
    assert [list(each.dims) for each in free.input] == [[-1, 3], [1]]
    assert free.input[1].HasField("reshape")
    assert quoted("x") == '"x"'
    spec = (TensorSpec("x", (None, 1), "bfloat16"),)
    with pytest.raises(UsageError, match="Triton has no type for bfloat16"):
        config(Artifact("onnx", "m", "float32", spec, spec, {}, 1, 0.0), "m", 8)


def test_external_data_keeps_its_name_beside_the_model(copied: Path, repair: Callable[[Path, str], None]) -> None:
    from converter.bundle.proven import read_proven
    from converter.serving.content import PackageOptions

    (copied / "model.onnx.data").write_bytes(b"weights")
    repair(copied, "model.onnx.data")
    proven = read_proven(copied)
    for server in ("triton", "ovms"):
        assert "two_heads/1/model.onnx.data" in LAYOUTS[server](proven, PackageOptions())


def test_tensorflow_serving_and_openvino(copied: Path, tmp_path: Path) -> None:
    package(copied, "tf-serving", tmp_path / "tf", version=7, name="net", base_path="/srv/")
    assert (tmp_path / "tf/net/7/saved_model.pb").is_file()
    assert 'base_path: "/srv/net"' in (tmp_path / "tf/models.config").read_text()
    package(copied, "ovms", tmp_path / "ovms", form="tflite")
    (model,) = json.loads((tmp_path / "ovms/config.json").read_text())["model_config_list"]
    assert model["config"]["base_path"] == "/models/two_heads"
    assert (tmp_path / "ovms/two_heads/1/model.tflite").is_file()


def test_kserve(copied: Path, tmp_path: Path) -> None:
    package(copied, "kserve", tmp_path / "out", name="My_Net.v2", base_path="pvc://store")
    service = yaml.safe_load((tmp_path / "out/inference-service.yaml").read_text())
    assert service["metadata"]["name"] == "my-net-v2"
    assert service["spec"]["predictor"]["model"]["storageUri"] == "pvc://store/models"
    assert parsed((tmp_path / "out/models/My_Net.v2/config.pbtxt").read_text()).name == "My_Net.v2"


def test_hub(copied: Path, tmp_path: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["warnings"] = ["<script>|x|"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    package(copied, "hub", tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["tags"] == ["cnnexport", "onnx", "tflite", "tensorflow"]
    assert "| onnx | float32 | onnxruntime |" in text
    assert "**pass**" in text
    assert "<script>" not in text.replace("\\<", "")
    assert converter.verify(tmp_path / "out", runtimes="onnxruntime").verdict == "pass"


def test_oci(copied: Path, tmp_path: Path) -> None:
    package(copied, "oci", tmp_path / "out")
    root = tmp_path / "out"
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}

    def blob(descriptor: Any) -> bytes:
        content = (root / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
        assert len(content) == descriptor["size"]
        assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
        return content

    (reference,) = json.loads((root / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(reference))
    assert blob(manifest["config"]) == b"{}"
    for layer in manifest["layers"]:
        name = layer["annotations"]["org.opencontainers.image.title"]
        assert blob(layer) == (copied / name).read_bytes()
    package(copied, "oci", tmp_path / "again")
    assert (root / "index.json").read_bytes() == (tmp_path / "again/index.json").read_bytes()


def test_what_is_refused(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UsageError, "no such server", {"server": "torchserve"}),
        (UsageError, "this server takes onnx or saved-model", {"form": "tflite"}),
        (UsageError, "no such format", {"form": "onxx"}),
        (UsageError, "has no artifact in onnx or saved-model int8", {"precision": "int8"}),
        (UsageError, "at least 1", {"version": 0}),
        (UsageError, "--name a/b", {"name": "a/b"}),
    ]
    for kind, words, given in cases:
        with pytest.raises(kind, match=words):
            package(copied, given.pop("server", "triton"), out, **given)
    with pytest.raises(UsageError, match="inside of the export"):
        package(copied, "triton", copied / "triton")
    out.mkdir()
    package(copied, "triton", out)
    with pytest.raises(OutputError, match="exists already"):
        package(copied, "triton", out)
    with pytest.raises(InputError, match="no such directory"):
        package(tmp_path / "absent", "triton", tmp_path / "new")
    report = json.loads((copied / "report.json").read_text())
    (copied / "report.json").write_text(json.dumps({**report, "verdict": "fail"}))
    with pytest.raises(ParityError, match="not packaged, its verdict is fail"):
        package(copied, "triton", tmp_path / "new")
    (copied / "golden.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="damaged"):
        package(copied, "triton", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_links_files_are_copied(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    assert "copied" in package(copied, "triton", tmp_path / "out").files.values()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match="No space left"):
        package(copied, "triton", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied", "out"]


def test_the_command(copied: Path, cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport("package", copied, "--for", "TRITON", "-o", "out", "--json")
    assert outcome.code == 0
    assert outcome.json["files"]["two_heads/config.pbtxt"] == "written"
    assert cnnexport("package", copied, "--for", "triton", "-o", "out").code == 7
    assert cnnexport("package", copied, "--for", "torchserve", "-o", "new").code == 2
    assert cnnexport("package", copied, "-o", "new").code == 2
    assert cnnexport("package", "absent", "--for", "oci", "-o", "new").code == 3
    outcome = cnnexport("package", copied, "--for", "hub", "-o", "hub")
    assert outcome.stdout.splitlines()[-1] == "hub: hub"
