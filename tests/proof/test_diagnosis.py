"""A fault planted in the middle of an ONNX file: the verdict is fail, and the report names the layer."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layered_nets import NETS, PLANTED

import converter
from converter.bundle.layers import LAYERS, read_layers
from converter.bundle.manifest import read_manifest
from converter.core.data import Golden, TensorSpec, WriteOptions
from converter.core.errors import InputError
from converter.core.jsonable import dumps
from converter.core.results import Report
from converter.core.sketch import CHANNELS_FIRST, distance, from_text, sketch, to_text
from converter.proof import diagnosis, rows
from converter.proof.error_chain import stages
from converter.proof.protocol import Subject
from converter.report.table import print_report, to_json

Change = Callable[[Any], None]


@pytest.fixture
def broken(layered: dict[str, Path], tmp_path: Path, repair: Callable[..., None]) -> Callable[[str, Change], Report]:
    """Changes the ONNX file in a copy of an export, repairs its hash, verifies it, and returns the failed report."""
    import onnx

    def change(name: str, fault: Change) -> Report:
        directory = Path(shutil.copytree(layered[name], tmp_path / name))
        model = onnx.load(str(directory / "model.onnx"))
        fault(model.graph)
        onnx.save(model, str(directory / "model.onnx"))
        repair(directory, "model.onnx")
        report = converter.verify(directory, runtimes=("onnxruntime",))
        assert report.verdict == "fail"
        return report

    return change


def node_of(graph: Any, name: str) -> Any:
    (node,) = [each for each in graph.node if each.name == name]
    return node


def edit(graph: Any, name: str, work: Callable[[Any], Any]) -> None:
    """Replace the array of an initializer by the result of `work`."""
    import onnx

    (tensor,) = [each for each in graph.initializer if each.name == name]
    array = work(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))


def scaled(layer: str) -> Change:
    return lambda graph: edit(graph, node_of(graph, f"{layer}/Conv").input[1], lambda kernel: kernel * np.float32(1.01))


def zeroed_filter(layer: str) -> Change:
    def work(kernel: Any) -> Any:
        kernel[len(kernel) // 2] = 0
        return kernel

    return lambda graph: edit(graph, node_of(graph, f"{layer}/Conv").input[1], work)


def turned(layer: str) -> Change:
    return lambda graph: edit(graph, node_of(graph, f"{layer}/Conv").input[1], lambda kernel: kernel.swapaxes(2, 3))


def exchanged(layer: str, other: str, *inputs: int) -> Change:
    """Each convolution gets the other one's kernel (input 1), its bias (2), or both."""

    def work(graph: Any) -> None:
        one, two = node_of(graph, f"{layer}/Conv"), node_of(graph, f"{other}/Conv")
        for index in inputs:
            one.input[index], two.input[index] = two.input[index], one.input[index]

    return work


def shifted(layer: str) -> Change:
    """The padding of one row moves from the top to the bottom."""

    def work(graph: Any) -> None:
        node = node_of(graph, f"{layer}/Conv")
        for attribute in list(node.attribute):
            if attribute.name in ("auto_pad", "pads"):
                node.attribute.remove(attribute)
        node.attribute.add(name="pads", type=7, ints=[0, 1, 2, 1])

    return work


KINDS: dict[str, Callable[..., Change]] = {
    each.__name__: each for each in (scaled, zeroed_filter, exchanged, turned, shifted)
}
FAULTS = [(model, layer, KINDS[kind](*given)) for model, layer, kind, given in PLANTED]


@pytest.mark.parametrize(("model", "layer", "fault"), FAULTS)
def test_planted_fault_is_found(model: str, layer: str, fault: Change, broken: Callable[[str, Change], Report]) -> None:
    keras, row = broken(model, fault).rows
    assert keras.passed
    found = row.diagnosis
    assert found is not None
    assert found.first is not None, found.text
    assert found.layers[found.first].name == layer, found.text
    assert found.layers[found.first].kind == "Conv2D"
    assert found.text.startswith(f"first divergence: {layer} (Conv2D)")
    assert found.before is not None
    assert found.before < 1e-5
    assert found.after is not None
    assert found.after > 1e-3


def test_every_layer_is_in_the_record(layered: dict[str, Path]) -> None:
    """Each layer of the model is compared itself, or covered by the one that it was folded into."""
    layers = read_layers(layered["residual"]).artifacts["model.onnx"]
    covered = [name for layer in layers for name, _ in layer.covers]
    assert {"stem", "stem_bn", "early_grouped", "early_add", "late_relu", "pool", "head"} <= set(covered)
    by_name = {layer.name: layer for layer in layers}
    assert [name for name, _ in by_name["early_expand"].covers] == ["early_expand", "early_expand_bn"]
    add = by_name["early_add"]
    assert {layers[place].name for place in add.inputs} == {"stem_relu", "early_expand"}
    assert all(layer.noise is not None and layer.noise < 1e-5 for layer in layers)
    assert (layered["residual"] / LAYERS).stat().st_size < 100_000


def test_intact_artifact_is_not_diagnosed(layered: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("called for an artifact that passes")

    monkeypatch.setattr(rows, "explain", never)
    assert converter.verify(layered["plain"]).verdict == "pass"


def test_intact_layers_are_within_their_tolerances(layered: dict[str, Path]) -> None:
    for directory in layered.values():
        manifest = read_manifest(directory)
        found = diagnosis.explain(Subject(directory, manifest.artifacts[0], manifest.interface, "onnxruntime", "cpu"))
        assert found.first is None, found.text
        assert len(found.layers) > 6
        assert "fused" in found.text


def test_report_names_the_layer(broken: Callable[..., Report], capsys: pytest.CaptureFixture[str]) -> None:
    report = broken("plain", scaled("two"))
    print_report(report, sys.stdout)
    printed = " ".join(capsys.readouterr().out.split())
    expected = "fail: onnx in onnxruntime on cpu: first divergence: two (Conv2D), with two_bn (BatchNormalization): "
    assert expected in printed
    assert "e-07 before, " in printed
    assert json.loads(dumps(to_json(report)))["rows"][1]["diagnosis"]["layers"][2]["name"] == "two"


def test_needs_neither_keras_nor_onnx(layered: dict[str, Path], tmp_path: Path, repair: Callable[..., None]) -> None:
    """On a machine that only verifies, where importing any of them fails."""
    import onnx

    directory = Path(shutil.copytree(layered["branches"], tmp_path / "branches"))
    model = onnx.load(str(directory / "model.onnx"))
    scaled("middle")(model.graph)
    onnx.save(model, str(directory / "model.onnx"))
    repair(directory, "model.onnx")
    for name in ("tensorflow", "keras", "tf2onnx", "onnx", "h5py"):
        (tmp_path / "absent" / name).mkdir(parents=True)
        (tmp_path / "absent" / name / "__init__.py").write_text("raise ImportError('not on this machine')")
    code = "import sys, converter; print(converter.verify(sys.argv[1]).reasons[-1])"
    paths = os.pathsep.join([str(tmp_path / "absent"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert "first divergence: middle (Conv2D)" in done.stdout


def damaged(directory: Path) -> None:
    (directory / LAYERS).write_text("{}")


def pickled(directory: Path) -> None:
    record = json.loads((directory / LAYERS).read_text())
    record["activations"][1]["sketch"] = "gASVAAAA"
    (directory / LAYERS).write_text(json.dumps(record))


def cyclic(directory: Path) -> None:
    record = json.loads((directory / LAYERS).read_text())
    record["artifacts"][0]["layers"][0]["inputs"] = [3]
    (directory / LAYERS).write_text(json.dumps(record))


def pointing_nowhere(directory: Path) -> None:
    record = json.loads((directory / LAYERS).read_text())
    record["artifacts"][0]["layers"][0]["activation"] = 99
    (directory / LAYERS).write_text(json.dumps(record))


def of_the_future(directory: Path) -> None:
    record = json.loads((directory / LAYERS).read_text())
    (directory / LAYERS).write_text(json.dumps({**record, "schema": 4}))


def other_inputs(directory: Path) -> None:
    with np.load(directory / "golden.npz") as arrays:
        content = {name: array[::-1] if name.startswith("input/") else array for name, array in arrays.items()}
    np.savez(directory / "golden.npz", **content)


@pytest.mark.parametrize(
    ("work", "changed", "says"),
    [
        (damaged, LAYERS, "schema: expected a whole number, but it is missing"),
        (pickled, LAYERS, "sketch: expected a sketch"),
        (cyclic, LAYERS, "inputs: expected indices of earlier layers"),
        (pointing_nowhere, LAYERS, "activation: expected the index of an activation"),
        (of_the_future, LAYERS, "schema: expected 3, the only version that this cnnexport reads"),
        (other_inputs, "golden.npz", "the golden inputs differ from those"),
        (lambda directory: (directory / LAYERS).unlink(), None, "the export recorded no activations"),
    ],
)
def test_the_reason_why_no_layer_is_found_is_reported(
    work: Callable[[Path], None], changed: str | None, says: str, layered: dict[str, Path], tmp_path: Path,
    repair: Callable[..., None],
) -> None:  # fmt: skip
    directory = Path(shutil.copytree(layered["plain"], tmp_path / "plain"))
    work(directory)
    if changed:
        repair(directory, changed)
    manifest = read_manifest(directory)
    found = diagnosis.explain(Subject(directory, manifest.artifacts[0], manifest.interface, "onnxruntime", "cpu"))
    assert found.text.startswith("no layer found: ")
    assert says in found.text
    assert found.first is None


def test_fault_of_the_export_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was already wrong when its record was made: layers with the same name in the file are still found."""
    from converter import formats

    space: dict[str, Any] = {}
    exec(NETS, space)
    true = formats.FORMATS["onnx"]

    def write(traced: Any, directory: Path, options: Any) -> Any:
        import onnx

        artifact = true.write(traced, directory, options)
        model = onnx.load(str(directory / artifact.path))
        scaled("two")(model.graph)
        onnx.save(model, str(directory / artifact.path))
        return artifact

    monkeypatch.setitem(formats.FORMATS, "onnx", dataclasses.replace(true, write=write))
    options = converter.ExportOptions(("onnx",), tmp_path / "net", WriteOptions(batch=3, layout="nchw"))
    report = converter.export(space["plain"](), options)
    assert report.verdict == "fail"
    found = report.rows[-1].diagnosis
    assert found is not None
    assert found.first is not None, found.text
    assert "two (Conv2D)" in found.text
    assert found.layers[found.first].name == "two_relu"
    assert found.layers[found.first].covers == ("two", "two_bn", "two_relu")
    assert found.before is not None
    assert found.before < 1e-6


@pytest.mark.parametrize("shape", [(2, 10), (2, 33, 31, 24), (2, 112, 112, 64), (2, 7, 7, 2048), (2, 1)])
def test_distance_of_sketches_is_that_of_activations(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    reference = rng.standard_normal(shape).astype(np.float32)
    other = reference + np.float32(1e-3) * rng.standard_normal(shape).astype(np.float32)
    true = np.max([np.linalg.norm(one - two) / np.linalg.norm(two) for one, two in zip(other, reference, strict=True)])
    assert distance(sketch(other), sketch(reference)) == pytest.approx(true, rel=0.7)
    assert distance(sketch(reference), sketch(reference)) == 0
    assert distance(from_text(to_text(sketch(reference))), sketch(reference)) < 1e-7


@pytest.mark.parametrize("channel", [0, 13, 63])
def test_one_channel_of_a_large_activation_is_detected(channel: int) -> None:
    reference = np.random.default_rng(2).standard_normal((2, 112, 112, 64)).astype(np.float32)
    other = reference.copy()
    other[..., channel] = 0
    assert distance(sketch(other), sketch(reference)) == pytest.approx(np.sqrt(1 / 64), rel=0.5)
    assert distance(sketch(np.moveaxis(reference, -1, 1), CHANNELS_FIRST), sketch(reference)) == 0


@pytest.mark.parametrize("place", [(0, 0, 0), (57, 3, 12), (111, 111, 63)])
def test_one_element_of_a_large_activation_is_detected(place: tuple[int, ...]) -> None:
    reference = np.random.default_rng(3).standard_normal((1, 112, 112, 64)).astype(np.float32)
    other = reference.copy()
    other[(0, *place)] += 1000
    true = 1000 / np.linalg.norm(reference)
    assert distance(sketch(other), sketch(reference)) == pytest.approx(true, rel=0.5)


def test_distance_from_zero_and_of_nan() -> None:
    zero, one = np.zeros((2, 64)), np.ones((2, 64))
    assert distance(zero, zero) == 0
    assert distance(one, zero) == distance(one * np.nan, one) == distance(one[:1], one) == np.inf
    assert sketch(np.float32(3)).shape == (1, 64)


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", "ä"])
def test_invalid_text_of_a_sketch(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|values|ASCII|ascii"):
        from_text(text)


def test_missing_record_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=LAYERS):
        read_layers(tmp_path)


def test_error_by_stage(layered: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    report = converter.verify(layered["plain"], runtimes=("onnxruntime", "onnxruntime-noopt"))
    assert [(stage.name, stage.before) for stage in report.stages] == [
        ("keras", "keras in float64"),
        ("onnx in onnxruntime-noopt", "keras"),
        ("onnx in onnxruntime", "onnx in onnxruntime-noopt"),
    ]
    keras = report.rows[0].outputs[0]
    assert keras.relative_l2 is not None
    assert report.stages[0].errors["head"] == pytest.approx(keras.relative_l2, rel=1e-3)
    assert keras.multiple is not None
    assert 0.2 < keras.multiple < 1.5  # Keras rounds like the traced graph, or less where that adds in order
    (unoptimized,) = [row for row in report.rows if row.runtime == "onnxruntime-noopt"]
    assert report.stages[1].errors["head"] == pytest.approx(unoptimized.outputs[0].relative_l2, rel=0.5)
    print_report(report, sys.stdout)
    assert "error by stage, head: keras " in " ".join(capsys.readouterr().out.split())


def test_stages_of_outputs_that_cannot_be_compared() -> None:
    specs = {"y": TensorSpec("y", (None, 3))}
    one = {"y": np.ones((2, 3), np.float32)}
    golden = Golden({}, one, {}, {})
    outputs = {("onnx", "onnxruntime", "cuda"): {"y": np.ones((2, 4))}, ("tflite", "litert", "cpu"): one}
    found = stages(golden, {"y": one["y"] * np.float32(2)}, outputs, specs)
    assert [(stage.name, stage.before, stage.errors["y"]) for stage in found] == [
        ("keras-rewritten", "keras", 1.0),
        ("tflite in litert", "keras-rewritten", 0.5),
        ("onnx in onnxruntime on cuda", "keras-rewritten", None),
    ]
