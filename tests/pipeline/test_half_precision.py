"""Models that Keras computes in half precision: written in float32, and compared with float64 at its tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converter
from converter.bundle.manifest import read_manifest
from converter.core.results import Report
from converter.pipeline import ExportOptions


@pytest.fixture(autouse=True)
def _policy() -> Iterator[None]:
    import keras

    before = keras.mixed_precision.dtype_policy()
    yield
    keras.mixed_precision.set_dtype_policy(before)


def build(policy: str, head: str | None = "float32") -> Any:
    """A small classifier with a resize under `policy`; its last layer under `head` (None: under `policy` too)."""
    import keras
    from keras import layers

    from converter.core.samples import generate
    from converter.tracing.signature import describe
    from zoo.calibrate import calibrate

    keras.mixed_precision.set_dtype_policy(policy)
    image = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(x)
    x = layers.Conv2D(16, 3, strides=2, groups=4, activation="relu", name="grouped")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    kind = {} if head is None else {"dtype": head}
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="head", **kind)(x), name="half")
    keras.mixed_precision.set_dtype_policy("float32")
    calibrate(model, generate(describe(model).inputs, 8, 0)["image"], 0)
    return model


def export(model: Any, directory: Path) -> Report:
    return converter.export(model, ExportOptions(output=directory, samples=4))


@pytest.mark.parametrize(
    ("policy", "head"),
    [
        ("mixed_float16", "float32"),
        ("mixed_bfloat16", None),
        pytest.param("float16", None, marks=pytest.mark.slow),
    ],
)
def test_every_format_is_float32_and_passes(policy: str, head: str | None, tmp_path: Path) -> None:
    report = export(build(policy, head), tmp_path / "out")
    assert report.verdict == "pass", report.reasons
    keras, *artifacts = report.rows
    assert (keras.subject, keras.precision) == ("keras", "float16")
    assert keras.outputs[0].relative_l2 is not None
    assert keras.outputs[0].relative_l2 > 1e-5  # what half precision does to Keras
    assert {row.subject for row in artifacts} == {"onnx", "tflite", "saved-model"}
    (bound,) = report.tolerances.values()
    assert bound.noise is not None
    assert bound.noise < 1e-5  # the noise of float32, in which the artifacts compute
    assert {result.domain for row in artifacts for result in row.outputs} == {"log-probability"}
    assert [each.name for each in report.controls if each.name.startswith("kernel-scaled") and each.detected]
    (warning,) = report.warnings
    assert policy.removeprefix("mixed_") in warning
    assert "float32" in warning
    for artifact in report.artifacts:
        assert {spec.dtype for spec in (*artifact.inputs, *artifact.outputs)} == {"float32"}
        assert not [name for name in artifact.operators if "Cast" in name.title()]
    again = converter.verify(tmp_path / "out", runtimes=("onnxruntime", "litert"))
    assert again.verdict == "pass", again.reasons
    assert again.tolerances == report.tolerances
    assert again.rows[0].subject != "keras"  # only the export knows Keras's own outputs
    assert read_manifest(tmp_path / "out").tolerance["precision"] == "float32"


def test_a_small_fault_fails(tmp_path: Path, repair: Callable[[Path, str], None]) -> None:
    """A kernel scaled by 1.001 is far below the error of half precision."""
    import onnx

    report = export(build("mixed_float16"), tmp_path / "out")
    assert report.verdict == "pass", report.reasons
    path = tmp_path / "out" / "model.onnx"
    model = onnx.load(str(path))
    (tensor,) = [each for each in model.graph.initializer if each.name == "grouped/kernel"]
    values = onnx.numpy_helper.to_array(tensor) * np.float32(1.001)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))
    repair(tmp_path / "out", "model.onnx")
    assert converter.verify(tmp_path / "out", runtimes=("onnxruntime",)).verdict == "fail"


def test_bilinear_resizing_has_a_float64_reference(tmp_path: Path) -> None:
    report = export(build("float32"), tmp_path / "out")
    assert report.verdict == "pass", report.reasons
    (bound,) = report.tolerances.values()
    assert bound.noise is not None
    assert 1e-8 < bound.noise < 1e-5
    assert report.warnings == ()
