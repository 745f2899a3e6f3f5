"""A small ResNeXt whose groups are Lambda layers, saved by Keras and exported like a user's model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import converter
from converter.core.data import SourceOptions
from converter.core.errors import UnsafeError
from converter.core.results import Report

GROUPS, BLOCKS, WIDTH = 4, 2, 16
SHAPE = (24, 24, 3)
CHANGED = "with the function changed on purpose"


def build(late: bool, sentinel: Path | None = None) -> Any:
    """Two bottlenecks of four groups; with `late`, the Lambda layers read their loop variable too late.

    With `sentinel`, calling a slice creates that file.
    """
    import keras
    from keras import layers

    from zoo.calibrate import calibrate

    part = WIDTH // GROUPS
    path = str(sentinel)
    given = keras.Input(SHAPE, name="image")
    x = layers.Conv2D(WIDTH, 3, strides=2, padding="same", name="stem")(given)
    for block in range(BLOCKS):
        shortcut = x
        x = layers.Conv2D(WIDTH, 1, use_bias=False, name=f"b{block}_in")(x)
        x = layers.ReLU(name=f"b{block}_in_relu")(layers.BatchNormalization(name=f"b{block}_in_bn")(x))
        branches = []
        for c in range(GROUPS):
            if sentinel is not None:
                cut = layers.Lambda(
                    lambda z, c=c: (open(path, "w").close(), z[..., c * part : (c + 1) * part])[1]  # noqa: PTH123  a builtin
                )
            elif late:
                cut = layers.Lambda(lambda z: z[..., c * part : (c + 1) * part])  # noqa: B023  the bug under test
            else:
                cut = layers.Lambda(lambda z, c=c: z[..., c * part : (c + 1) * part])
            convolution = layers.Conv2D(part, 3, padding="same", use_bias=False, name=f"b{block}_g{c}")
            branches.append(convolution(cut(x)))
        x = layers.Concatenate(name=f"b{block}_joined")(branches)
        x = layers.ReLU(name=f"b{block}_relu")(layers.BatchNormalization(name=f"b{block}_bn")(x))
        x = layers.Conv2D(WIDTH, 1, use_bias=False, name=f"b{block}_out")(x)
        x = layers.BatchNormalization(name=f"b{block}_out_bn")(x)
        x = layers.ReLU(name=f"b{block}_out_relu")(layers.Add(name=f"b{block}_add")([x, shortcut]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(given, layers.Dense(5, activation="softmax", name="predictions")(x), name="lambda_net")
    calibrate(model, np.random.default_rng(0).standard_normal((4, *SHAPE), np.float32), 0)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool, str], Path]:
    """The saved model, with late binding or not, as ".keras" or ".h5"; each is built once."""
    directory = tmp_path_factory.mktemp("lambda_models")
    models: dict[bool, Any] = {}

    def saved(late: bool, suffix: str) -> Path:
        path = directory / f"{'late' if late else 'bound'}{suffix}"
        if not path.exists():
            if late not in models:
                models[late] = build(late)
            models[late].save(path)
        return path

    return saved


def export(path: Path, directory: Path, *formats: str, **options: Any) -> Report:
    chosen = converter.ExportOptions(formats=formats, output=directory, source=SourceOptions(trust=True), **options)
    return converter.export(str(path), chosen)


def convolutions(directory: Path) -> tuple[int, int, set[str]]:
    """Ordinary and grouped convolutions of the ONNX file, and all its operators."""
    nodes = onnx.load(directory / "model.onnx").graph.node
    groups = [each.i for node in nodes if node.op_type == "Conv" for each in node.attribute if each.name == "group"]
    found = [node for node in nodes if node.op_type == "Conv"]
    grouped = sum(group > 1 for group in groups)
    assert all(group in (1, GROUPS) for group in groups)
    return len(found) - grouped, grouped, {node.op_type for node in nodes}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_groups_with_their_variable_bound(files: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    formats = ("onnx", "tflite", "saved-model") if suffix == ".h5" else ("onnx",)
    report = export(files(False, suffix), tmp_path / "net", *formats)
    assert (report.verdict, report.exit_code) == ("pass", 0), report.reasons
    assert report.warnings == ()
    assert {row.subject for row in report.rows} == {"keras", "keras-rewritten", *formats}
    ordinary, grouped, operators = convolutions(tmp_path / "net")
    assert (ordinary, grouped) == (1 + 2 * BLOCKS, BLOCKS)
    assert not operators & {"Slice", "StridedSlice", "Split", "Concat", "Gather"}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_groups_bound_too_late_keep_the_function_and_warn(
    files: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    import keras

    path = files(True, suffix)
    report = export(path, tmp_path / "net", "onnx")
    assert (report.verdict, report.exit_code) == ("pass", 0), report.reasons
    _, grouped, operators = convolutions(tmp_path / "net")
    assert grouped == 0
    assert "Slice" in operators
    (warning,) = report.warnings
    assert warning.startswith(f"GROUPS ARE NOT GROUPS: in {BLOCKS} place(s) every branch reads the same channels.")
    for block in range(BLOCKS):
        assert f"(convolutions b{block}_g0 … b{block}_g{GROUPS - 1}) all read channels 12-15 of 16" in warning
    assert "channels 0-11 are never read: 75% of the input is ignored" in warning
    assert "lambda x, c=c:" in warning
    for name in ("manifest.json", "report.json"):
        assert json.loads((tmp_path / "net" / name).read_text())["warnings"] == [warning]
    with np.load(tmp_path / "net" / "golden.npz") as golden:
        own = keras.saving.load_model(path, compile=False, safe_mode=False).predict(golden["input/image"], verbose=0)
        assert np.allclose(golden["reference/predictions"], own, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_as_written_is_proven_against_the_changed_function(
    cnnexport: Callable[..., Any], files: Callable[..., Path], tmp_path: Path
) -> None:
    path = files(True, ".keras")
    outcome = cnnexport(path, "--trust", "--groups", "as-written", "-o", "net", "--quiet")
    assert outcome.code == 0, outcome.stdout + outcome.stderr
    assert f", {CHANGED}: net" in " ".join(outcome.stdout.split())
    assert "THE FUNCTION WAS CHANGED ON PURPOSE" in outcome.stdout
    for block in range(BLOCKS):
        assert f"b{block}_g0" in outcome.stdout
    ordinary, grouped, operators = convolutions(tmp_path / "net")
    assert (ordinary, grouped) == (1 + 2 * BLOCKS, BLOCKS)
    assert "Slice" not in operators
    report = json.loads((tmp_path / "net" / "report.json").read_text())
    assert report["source"]["changed_on_purpose"] is True
    assert {row["subject"] for row in report["rows"]} == {"keras", "onnx", "tflite", "saved-model"}
    assert "not with the model's own predictions" in report["warnings"][-1]
    difference = float(report["warnings"][-1].rpartition("predictions ")[2])
    assert difference > 1e-2
    with np.load(tmp_path / "net" / "golden.npz") as golden:
        meant = _with_bound_groups(path).predict(golden["input/image"], verbose=0)
        assert np.allclose(golden["reference/predictions"], meant, rtol=1e-4, atol=1e-6)
    again = cnnexport("verify", "net", "--runtime", "onnxruntime")
    assert again.code == 0
    assert f"pass (onnx in onnxruntime; not run: model.tflite, saved_model), {CHANGED}: net" in " ".join(
        again.stdout.split()
    )


def _with_bound_groups(path: Path) -> Any:
    """The same weights in the model with corrected source."""
    import keras

    trained = keras.saving.load_model(path, compile=False, safe_mode=False)
    corrected = build(late=False)
    for layer in corrected.layers:
        if layer.weights:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    return corrected


def test_as_written_changes_nothing_if_groups_are_groups(files: Callable[..., Path], tmp_path: Path) -> None:
    report = export(files(False, ".keras"), tmp_path / "net", "onnx", groups="as-written")
    assert report.verdict == "pass", report.reasons
    assert report.warnings == ()
    assert report.source["changed_on_purpose"] is False
    assert {row.subject for row in report.rows} == {"keras", "keras-rewritten", "onnx"}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_without_trust_no_lambda_runs(cnnexport: Callable[..., Any], tmp_path: Path, suffix: str) -> None:
    sentinel = tmp_path / "sentinel"
    path = tmp_path / f"evil{suffix}"
    build(late=False, sentinel=sentinel).save(path)
    sentinel.unlink()
    outcome = cnnexport(path, "-o", "net")
    assert outcome.code == 4
    assert "Lambda runs Python code that is stored in the file" in outcome.stderr
    assert "--trust" in outcome.stderr
    assert not sentinel.exists()
    assert not (tmp_path / "net").exists()
    with pytest.raises(UnsafeError, match="--trust"):
        converter.export(str(path), converter.ExportOptions(output=tmp_path / "net"))
    assert not sentinel.exists()
    report = export(path, tmp_path / "net", "onnx")
    assert sentinel.exists()
    assert report.verdict == "pass", report.reasons
