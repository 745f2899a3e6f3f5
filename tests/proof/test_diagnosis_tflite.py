"""A fault planted in the middle of a TFLite file: the verdict is fail, and the report names the layer."""

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
from converter.core.data import Array, WriteOptions
from converter.core.results import Report
from converter.formats.tflite import file as tflite_file
from converter.proof import diagnosis
from converter.proof.protocol import Subject

Change = Callable[[Any], None]


def load(path: Path) -> Any:
    """A TFLite file in object form."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))


def node_of(model: Any, layer: str) -> Any:
    """The operator of a layer's convolution, whose output is named after all nodes in it; its inputs become a list."""
    graph = model.subgraphs[0]
    (node,) = [
        each for each in graph.operators
        if f"{layer}/convolution" in graph.tensors[each.outputs[0]].name.decode().split(";")
    ]  # fmt: skip
    node.inputs = list(node.inputs)
    return node


def edit(model: Any, layer: str, work: Callable[[Array], Array]) -> None:
    """Replace the kernel of a layer, (out, height, width, in), by the result of `work`."""
    tensor = model.subgraphs[0].tensors[node_of(model, layer).inputs[1]]
    buffer = model.buffers[tensor.buffer]
    kernel = np.asarray(buffer.data, np.uint8).view(np.float32).reshape(tensor.shape).copy()
    buffer.data = np.ascontiguousarray(work(kernel)).reshape(-1).view(np.uint8)


def scaled(layer: str) -> Change:
    return lambda model: edit(model, layer, lambda kernel: kernel * np.float32(1.01))


def zeroed_filter(layer: str) -> Change:
    def work(kernel: Array) -> Array:
        kernel[len(kernel) // 2] = 0
        return kernel

    return lambda model: edit(model, layer, work)


def turned(layer: str) -> Change:
    return lambda model: edit(model, layer, lambda kernel: kernel.swapaxes(1, 2))


def exchanged(layer: str, other: str, *inputs: int) -> Change:
    """Each convolution gets the other one's kernel (input 1), its bias (2), or both; batch normalizations are folded
    in.
    """

    def work(model: Any) -> None:
        one, two = node_of(model, layer), node_of(model, other)
        for index in inputs:
            one.inputs[index], two.inputs[index] = two.inputs[index], one.inputs[index]

    return work


def shifted(layer: str) -> Change:
    """The padding of one row moves from the top to the bottom, by a separate PAD."""

    def work(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        graph, node = model.subgraphs[0], node_of(model, layer)
        code, buffer, amounts, padded = schema.OperatorCodeT(), schema.BufferT(), schema.TensorT(), schema.TensorT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.PAD
        code.version = 1
        buffer.data = np.array([[0, 0], [0, 2], [1, 1], [0, 0]], np.int32).reshape(-1).view(np.uint8)
        amounts.name, amounts.shape, amounts.type = b"amounts", [4, 2], schema.TensorType.INT32
        source = graph.tensors[node.inputs[0]]
        batch, height, width, channels = source.shape
        padded.name, padded.type, padded.shape = b"padded", source.type, [batch, height + 2, width + 2, channels]
        padded.shapeSignature = [-1, height + 2, width + 2, channels]
        padded.buffer, amounts.buffer = 0, len(model.buffers)
        model.buffers.append(buffer)
        model.operatorCodes.append(code)
        pad = schema.OperatorT()
        pad.opcodeIndex = len(model.operatorCodes) - 1
        pad.inputs, pad.outputs = [node.inputs[0], len(graph.tensors)], [len(graph.tensors) + 1]
        pad.builtinOptionsType, pad.builtinOptions = schema.BuiltinOptions.PadOptions, schema.PadOptionsT()
        graph.tensors += [amounts, padded]
        graph.operators.insert([each is node for each in graph.operators].index(True), pad)
        node.inputs[0], node.builtinOptions.padding = len(graph.tensors) - 1, schema.Padding.VALID

    return work


KINDS: dict[str, Callable[..., Change]] = {
    each.__name__: each for each in (scaled, zeroed_filter, exchanged, turned, shifted)
}
FAULTS = [(model, layer, KINDS[kind](*given)) for model, layer, kind, given in PLANTED]


@pytest.fixture
def plant(layered: dict[str, Path], tmp_path: Path, repair: Callable[..., None]) -> Callable[[str, Change], Path]:
    """Changes the TFLite file in a copy of an export, repairs its hash, and returns the copy."""

    def change(name: str, fault: Change) -> Path:
        directory = Path(shutil.copytree(layered[name], tmp_path / name))
        model = load(directory / "model.tflite")
        fault(model)
        tflite_file.save(model, {}, directory / "model.tflite")
        repair(directory, "model.tflite")
        return directory

    return change


def verified(directory: Path) -> Report:
    return converter.verify(directory, runtimes=("litert",))


def test_unchanged_file_passes(plant: Callable[[str, Change], Path]) -> None:
    """The code that plants the faults causes no failure itself."""
    assert verified(plant("branches", lambda model: None)).verdict == "pass"


@pytest.mark.parametrize(("model", "layer", "fault"), FAULTS)
def test_planted_fault_is_found(model: str, layer: str, fault: Change, plant: Callable[[str, Change], Path]) -> None:
    report = verified(plant(model, fault))
    assert report.exit_code == 1
    found = report.rows[-1].diagnosis
    assert found is not None
    assert found.first is not None, found.text
    assert found.layers[found.first].name == layer, found.text
    assert found.layers[found.first].kind == "Conv2D"
    assert found.text.startswith(f"first divergence: {layer} (Conv2D)")
    assert found.where == "litert without a delegate"
    assert found.before is not None
    assert found.before < 1e-5
    assert found.after is not None
    assert found.after > 1e-3


def test_command_line_names_the_layer(plant: Callable[[str, Change], Path], cnnexport: Callable[..., Any]) -> None:
    directory = plant("plain", scaled("two"))
    done = cnnexport("verify", directory, "--runtime", "litert")
    assert done.code == 1
    expected = (
        "fail: tflite in litert on cpu: first divergence: two (Conv2D), with two_bn (BatchNormalization), two_relu"
    )
    assert expected in " ".join(done.stdout.split())


def test_every_layer_is_in_the_record(layered: dict[str, Path]) -> None:
    """Each layer is compared itself, or covered by the one whose operator it became a part of."""
    record = read_layers(layered["residual"])
    layers = record.artifacts["model.tflite"]
    covered = {name for layer in layers for name, _ in layer.covers}
    assert covered == {name for layer in record.artifacts["model.onnx"] for name, _ in layer.covers}
    by_name = {layer.name: layer for layer in layers}
    assert [name for name, _ in by_name["stem"].covers] == ["stem", "stem_bn", "stem_relu"]
    add = by_name["early_add"]
    assert [name for name, _ in add.covers] == ["early_add", "early_relu"]
    assert {layers[place].name for place in add.inputs} == {"stem", "early_expand"}


def test_activations_are_stored_once(layered: dict[str, Path]) -> None:
    record = json.loads((layered["plain"] / LAYERS).read_text())
    both = [[layer["activation"] for layer in each["layers"]] for each in record["artifacts"]]
    assert len(record["activations"]) == len(set(both[0]) | set(both[1])) == len(both[0])
    assert all("sketch" not in layer for each in record["artifacts"] for layer in each["layers"])


@pytest.mark.parametrize(("runtime", "rest"), [("litert", "its delegate"), ("openvino", "openvino")])
def test_intact_layers_are_within_their_tolerances(runtime: str, rest: str, layered: dict[str, Path]) -> None:
    manifest = read_manifest(layered["residual"])
    found = diagnosis.explain(Subject(layered["residual"], manifest.artifacts[1], manifest.interface, runtime, "cpu"))
    assert found.first is None
    assert len(found.layers) == 11
    assert found.text == (
        f"every layer is within its tolerance in litert without a delegate, so the difference arises in {rest}"
    )


def test_file_with_other_tensor_names(plant: Callable[[str, Change], Path]) -> None:
    """As another converter may write it. A layer that cannot be compared does not count as correct."""

    def rename(model: Any) -> None:
        scaled("two")(model)
        graph = model.subgraphs[0]
        for index, tensor in enumerate(graph.tensors):
            if index not in (*graph.inputs, *graph.outputs):
                tensor.name = f"t{index}".encode()

    found = verified(plant("plain", rename)).rows[-1].diagnosis
    assert found is not None
    assert [layer.name for layer in found.layers if layer.error is not None] == ["head"]
    assert found.text.startswith("first divergence: head (Dense): 0.0e+00 before")
    assert found.text.endswith("; or one of the 6 layers before it that cannot be read from this file")


def test_fault_of_the_export_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was already wrong when its record was made, with a fixed batch."""
    from converter import formats

    space: dict[str, Any] = {}
    exec(NETS, space)
    true = formats.FORMATS["tflite"]

    def write(traced: Any, directory: Path, options: Any) -> Any:
        artifact = true.write(traced, directory, options)
        model = load(directory / artifact.path)
        scaled("early_reduce")(model)
        tflite_file.save(model, {}, directory / artifact.path)
        return artifact

    monkeypatch.setitem(formats.FORMATS, "tflite", dataclasses.replace(true, write=write))
    options = converter.ExportOptions(("tflite",), tmp_path / "net", WriteOptions(batch=3))
    report = converter.export(space["residual"](), options)
    assert report.verdict == "fail"
    found = report.rows[-1].diagnosis
    assert found is not None
    assert found.first is not None, found.text
    assert found.layers[found.first].name == "early_reduce"
    assert found.layers[found.first].covers == ("early_reduce", "early_reduce_bn", "early_reduce_relu")
    assert found.before is not None
    assert found.before < 1e-6


def test_needs_neither_tensorflow_nor_keras(plant: Callable[[str, Change], Path], tmp_path: Path) -> None:
    """On a machine that only verifies, where importing any of them fails."""
    directory = plant("branches", scaled("middle"))
    for name in ("tensorflow", "keras", "tf2onnx", "onnx", "h5py"):
        (tmp_path / "absent" / name).mkdir(parents=True)
        (tmp_path / "absent" / name / "__init__.py").write_text("raise ImportError('not on this machine')")
    code = "import sys, converter; print(converter.verify(sys.argv[1]).reasons[-1])"
    paths = os.pathsep.join([str(tmp_path / "absent"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert "tflite in litert on cpu: first divergence: middle (Conv2D)" in done.stdout
