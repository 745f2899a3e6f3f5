"""Faults that a comparison of outputs at one batch, one size and one tolerance does not see: each must fail here."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import converter
from converter.tracing.signature import Signature

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def size_faults(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "size_faults.py")))


def plant(directory: Path, change: Callable[[Any], None], repair: Callable[[Path, str], None]) -> None:
    import onnx

    path = directory / "model.onnx"
    model = onnx.load(str(path))
    change(model.graph)
    onnx.save(model, str(path))
    repair(directory, path.name)


def test_an_error_of_the_trace_is_not_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nets: Path) -> None:
    """All formats and float64 come from the same trace: only Keras itself can show that it is wrong."""
    import tiny_nets

    call = Signature.call
    monkeypatch.setattr(Signature, "call", lambda self, *given: [each * (1 + 9e-5) for each in call(self, *given)])
    import keras

    model = tiny_nets.two_heads()
    values = keras.Model(model.input, model.get_layer("pool").output, name="values")
    report = converter.export(values, output=tmp_path / "out", formats="onnx,tflite")
    assert report.verdict == "fail"
    (row,) = [row for row in report.rows if row.subject == "keras"]
    assert not row.passed
    assert row.outputs[0].relative_l2 == pytest.approx(9e-5, rel=0.05)


@pytest.mark.parametrize("size", [3, 8])
def test_a_fault_at_one_batch_size(
    size: int, copied: Path, size_faults: SimpleNamespace, repair: Callable[[Path, str], None]
) -> None:
    plant(copied, size_faults.wrong_where("main", size_faults.batch_is(size), 1e-3), repair)
    report = converter.verify(copied, runtimes="onnxruntime")
    assert report.verdict == "fail"
    assert any(f"(batch {size})" in reason for reason in report.reasons)


@pytest.fixture(scope="module")
def any_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with dynamic height and width, as ONNX and TFLite."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(image)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(x)
    x = layers.GroupNormalization(2, name="norm")(x)
    model = keras.Model(image, layers.Conv2D(2, 1, name="map")(x), name="any_size")
    directory = tmp_path_factory.mktemp("any_size") / "out"
    report = converter.export(model, output=directory, formats="onnx,tflite", dynamic_size={"H": 48, "W": 48})
    assert report.verdict == "pass", report.reasons
    return directory


def test_another_size_is_compared_with_keras(any_size: Path) -> None:
    with np.load(any_size / "golden.npz") as golden:
        assert golden["input/image"].shape[1:3] == (48, 48)
        height, width = golden["resized/input/image"].shape[1:3]
        assert height != width
        assert height % 2 == width % 2 == 1
        assert golden["resized/reference/map"].shape[1:3] == (height + 1, width + 1)


@pytest.mark.parametrize("condition", ["not_square", "odd_height"])
def test_a_fault_at_another_size(
    condition: str,
    any_size: Path,
    tmp_path: Path,
    size_faults: SimpleNamespace,
    repair: Callable[[Path, str], None],
) -> None:
    import shutil

    directory = Path(shutil.copytree(any_size, tmp_path / "out"))
    plant(directory, size_faults.wrong_where("map", getattr(size_faults, condition)), repair)
    report = converter.verify(directory, runtimes="onnxruntime")
    assert report.verdict == "fail"
    assert any("session)" in reason for reason in report.reasons)


def test_a_wrong_shape_fails_under_every_runtime(
    copied: Path, repair: Callable[[Path, str], None], cnnexport: Callable[..., Any]
) -> None:
    """An output of another shape is a wrong answer, not a runtime that cannot run the model."""
    from onnx import TensorProto, helper

    def change(graph: Any) -> None:
        (output,) = [each for each in graph.output if each.name == "main"]
        for node in graph.node:
            node.output[:] = ["main/flat" if name == "main" else name for name in node.output]
        graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [1], [1]))
        graph.node.append(helper.make_node("Unsqueeze", ["main/flat", "axes"], ["main"]))
        output.type.tensor_type.shape.dim.add().dim_value = 5

    plant(copied, change, repair)
    outcome = cnnexport("verify", copied / "model.onnx", "--runtime", "all", "--quiet", "--json")
    assert outcome.code == 1, outcome
    reasons = [reason for reason in outcome.json["reasons"] if "output main: shape" in reason]
    assert len(reasons) >= 3, outcome.json["reasons"]


def test_the_verdict_says_what_was_proven_and_what_was_not(
    cnnexport: Callable[..., Any], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.parent)
    last = cnnexport("verify", copied.name, "--runtime", "onnxruntime", "--quiet").stdout.splitlines()[-1]
    assert last == f"pass (onnx in onnxruntime; not run: model.tflite, saved_model): {copied.name}"


def test_the_signature_of_a_tflite_file_is_run(copied: Path, repair: Callable[[Path, str], None]) -> None:
    """Two outputs of one shape, exchanged in the signature alone: reading tensors by name does not show it."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    path = copied / "model.tflite"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    (signature,) = model.signatureDefs
    first, second = signature.outputs
    first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    repair(copied, path.name)
    assert converter.verify(copied, runtimes="litert").verdict == "fail"


def test_an_input_that_the_model_does_not_have_is_not_left_unset(
    copied: Path, repair: Callable[[Path, str], None]
) -> None:
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    file = copied / "model.tflite"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read_bytes(), 0))
    graph = model.subgraphs[0]
    extra = schema.TensorT.InitFromObj(
        schema.Model.GetRootAs(file.read_bytes(), 0).Subgraphs(0).Tensors(graph.inputs[0])
    )
    extra.name = b"mask"
    graph.tensors.append(extra)
    graph.inputs = [*graph.inputs, len(graph.tensors) - 1]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(bytes(builder.Output()))
    repair(copied, file.name)
    report = converter.verify(copied, runtimes="litert")
    assert (report.verdict, report.exit_code) == ("fail", 8)
    assert any("mask" in reason for reason in report.reasons)


def test_weights_under_any_name_are_scaled(tmp_path: Path) -> None:
    """A kernel that is not called kernel, before a normalization that cancels a scale of all its filters."""
    import keras

    class Own(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(3, 3, shape[-1], 8), name="w")

        def call(self, x: Any) -> Any:
            return keras.ops.conv(x, self.w, padding="same")

    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    model = keras.Model(image, keras.layers.GroupNormalization(1, name="norm")(Own(name="own")(image)), name="net")
    report = converter.export(model, output=tmp_path / "out", formats="onnx")
    assert report.verdict == "pass", report.reasons
    assert [each.name for each in report.controls if each.detected and "own/w" in each.name]


def test_a_model_without_weights_is_told(tmp_path: Path) -> None:
    import keras

    image = keras.Input((8, 8, 3), name="image")
    report = converter.export(
        keras.Model(image, keras.layers.MaxPooling2D(name="pool")(image)), output=tmp_path / "out", formats="onnx"
    )
    assert report.verdict == "pass", report.reasons
    assert any("no control changes a weight" in warning for warning in report.warnings)


def test_models_are_unchanged_by_their_controls(tmp_path: Path, nets: Path) -> None:
    import tiny_nets

    model = tiny_nets.two_heads()
    before = [each.copy() for each in model.get_weights()]
    converter.export(model, output=tmp_path / "out", formats="onnx")
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    assert "tiny_nets" in sys.modules
