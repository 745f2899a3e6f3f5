"""Preprocessing and labels inside of artifacts, read as others read them, and what an export says of wrong ones."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from conftest import once
from flatbuffers.number_types import Float32Flags, Int8Flags, UOffsetTFlags

LABELS = ["ant", "bee", "cat", "dog", "Käfer"]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, nets: Path) -> Path:
    """tiny_nets:two_heads with a preprocessing and labels."""

    def make(root: Path) -> None:
        import converter

        root.mkdir()
        (root / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
        report = converter.export(
            "tiny_nets:two_heads", output=root / "export", preprocessing="torch", labels=root / "labels.txt"
        )
        assert report.verdict == "pass", report.reasons

    return once(tmp_path_factory, "described", make) / "export"


def test_the_manifest(described: Path) -> None:
    manifest = json.loads((described / "manifest.json").read_text())
    assert manifest["labels"] == LABELS
    assert manifest["preprocessing"]["mode"] == "torch"
    assert "saved_model/assets.extra/labels.txt" in manifest["files"]


def test_onnx_has_its_own_keys_and_those_of_onnx(described: Path) -> None:
    model = onnx.load(described / "model.onnx")
    found = {each.key: each.value for each in model.metadata_props}
    assert json.loads(found["cnnexport.labels"]) == LABELS
    assert json.loads(found["cnnexport.preprocessing"])["channels"] == "rgb"
    assert found["Image.BitmapPixelFormat"] == "Rgb8"
    onnx.checker.check_model(model, full_check=True)


def test_a_saved_model_has_its_assets(described: Path) -> None:
    extra = described / "saved_model" / "assets.extra"
    assert (extra / "labels.txt").read_text(encoding="utf-8").splitlines() == LABELS
    assert json.loads(json.loads((extra / "cnnexport.json").read_text())["cnnexport.labels"]) == LABELS


class Table:
    """A table of a flatbuffer, read by the numbers of its fields as in metadata_schema.fbs."""

    def __init__(self, content: bytes, position: int) -> None:
        self.table = flatbuffers.table.Table(content, position)

    def _place(self, number: int) -> int:
        return int(self.table.Offset(4 + 2 * number))

    def text(self, number: int) -> str:
        place = self._place(number)
        return self.table.String(self.table.Pos + place).decode() if place else ""

    def byte(self, number: int) -> int:
        place = self._place(number)
        return int(self.table.Get(Int8Flags, self.table.Pos + place)) if place else 0

    def table_at(self, number: int) -> Table:
        place = self.table.Pos + self._place(number)
        return Table(self.table.Bytes, place + self.table.Get(UOffsetTFlags, place))

    def tables(self, number: int) -> Iterator[Table]:
        place = self._place(number)
        if place:
            start = self.table.Vector(place)
            for index in range(self.table.VectorLen(place)):
                yield Table(self.table.Bytes, self.table.Indirect(start + 4 * index))

    def floats(self, number: int) -> list[float]:
        place = self._place(number)
        start = self.table.Vector(place)
        return [self.table.Get(Float32Flags, start + 4 * index) for index in range(self.table.VectorLen(place))]


def metadata(path: Path) -> Table:
    """The root of the metadata in a TFLite file, found as its readers find it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    buffer = next(each.Buffer() for each in entries if each.Name() == b"TFLITE_METADATA")
    content = model.Buffers(buffer).DataAsNumpy().tobytes()
    assert content[4:8] == b"M001"
    return Table(content, struct.unpack_from("<I", content)[0])


def test_tflite_metadata_as_its_readers_find_them(described: Path) -> None:
    graph = next(metadata(described / "model.tflite").tables(3))
    (image,) = graph.tables(2)
    assert image.text(0) == "image"
    assert image.table_at(3).byte(0) == 2  # ImageProperties
    assert image.table_at(3).table_at(1).byte(0) == 1  # RGB
    (unit,) = image.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    assert np.allclose(unit.table_at(1).floats(0), [123.675, 116.28, 103.53])
    assert np.allclose(unit.table_at(1).floats(1), [58.395, 57.12, 57.375])
    assert np.allclose(image.table_at(5).floats(0), [2.64])
    main, aux = graph.tables(3)
    assert (main.text(0), aux.text(0)) == ("main", "aux")
    (file,) = main.tables(6)
    assert (file.text(0), file.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    assert list(aux.tables(6)) == []
    assert [each.text(0) for each in graph.tables(9)][:2] == ["cnnexport.preprocessing", "cnnexport.labels"]


def test_the_label_file_is_packed_after_the_model(described: Path) -> None:
    with zipfile.ZipFile(described / "model.tflite") as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == LABELS


def test_a_model_without_them_has_none(exported: Any) -> None:
    manifest = json.loads((exported.directory / "manifest.json").read_text())
    assert (manifest["labels"], manifest["preprocessing"]) == ([], {})
    assert not zipfile.is_zipfile(exported.directory / "model.tflite")
    assert not (exported.directory / "saved_model" / "assets.extra").exists()
    assert len(onnx.load(exported.directory / "model.onnx").metadata_props) == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--labels", "few.txt"), 2, "2 labels, fewer than the model's 5 classes"),
        (("--labels", "none.txt"), 3, "No such file"),
        (("--labels", "twice.txt"), 3, "stands for classes 0 and 1"),
        (("--labels", "imagenet"), 2, "1,000 labels, more than"),
        (("--preprocessing", "magic"), 2, "no such preprocessing"),
        (("--preprocessing", "wrong.json"), 3, "rgb or bgr or gray"),
    ],
)
def test_bad_input(
    options: tuple[str, ...], code: int, words: str, tmp_path: Path, cnnexport: Callable[..., Any]
) -> None:
    (tmp_path / "few.txt").write_text("a\nb\n")
    (tmp_path / "twice.txt").write_text("a\na\nb\nc\nd\n")
    (tmp_path / "wrong.json").write_text('{"channels": "cmyk"}')
    outcome = cnnexport("tiny_nets:two_heads", "-q", *options)
    assert (outcome.code, outcome.stdout) == (code, "")
    assert words in outcome.stderr
    assert not Path("artifacts").exists()
