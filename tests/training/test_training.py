"""Training: groups on a CPU, narrow models, going on after a stop, what a training leaves, wrong input."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from pictures import classes, photograph

from converter.core.errors import OutputError, UsageError
from zoo import MODELS

ROOT = Path(__file__).parents[2]
FAST = {"input_shape": (32, 32, 1), "width": 0.125, "depth": 0.5, "batch": 8}


def chain(*layers: Any, shape: tuple[int, ...] = (12, 10, 8)) -> Any:
    import keras

    given = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(given, x)


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"dilation_rate": 2}, {"padding": "same", "use_bias": False}])
def test_groups_without_groups(options: dict[str, Any]) -> None:
    """The same outputs, and the gradient of one small convolution for each group."""
    import keras
    import tensorflow as tf

    from converter.training.grouped import dense_groups, spread

    keras.utils.set_random_seed(1)
    model = chain(keras.layers.Conv2D(16, 3, groups=4, **options))
    layer = model.layers[1]
    image = np.random.default_rng(0).normal(size=(2, 12, 10, 8)).astype(np.float32)
    expected = np.asarray(model(image))
    with dense_groups(model) as count, tf.GradientTape() as tape:
        outputs = model(image)
        loss = tf.reduce_sum(outputs * tf.sin(outputs))
    assert count == 1
    assert np.allclose(np.asarray(outputs), expected, atol=1e-5)
    assert "convolution_op" not in vars(layer)
    gradient = tape.gradient(loss, layer.kernel.value)
    kernel = tf.Variable(layer.kernel.value)
    with tf.GradientTape() as tape:
        parts = [
            keras.ops.conv(
                image[..., 2 * group : 2 * group + 2], kernel[..., 4 * group : 4 * group + 4],
                strides=layer.strides, padding=layer.padding, dilation_rate=layer.dilation_rate,
            )
            for group in range(4)
        ]  # fmt: skip
        whole = tf.concat(parts, -1) + (layer.bias.value if layer.use_bias else 0.0)
        loss = tf.reduce_sum(whole * tf.sin(whole))
    assert np.allclose(gradient, tape.gradient(loss, kernel), atol=1e-4)
    assert spread(layer.kernel.value, 4).shape == (3, 3, 8, 16)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnext50-lambda"])
def test_every_architecture_has_a_narrow_form(name: str) -> None:
    from converter.training.narrow import narrowed

    spec = MODELS[name]
    size = max(64, spec.min_size)
    whole = spec.build(classes=3, input_shape=(size, size, spec.input_shape[2]))
    narrow = narrowed(whole, 0.125)
    assert narrow.count_params() < 0.3 * whole.count_params()
    assert [each.shape for each in narrow.outputs] == [each.shape for each in whole.outputs]
    assert [each.name for each in narrow.layers] == [each.name for each in whole.layers]
    assert narrowed(whole, 1.0) is whole


def test_a_narrow_model_keeps_its_groups() -> None:
    from converter.training.narrow import narrowed

    narrow = narrowed(MODELS["resnext50"].build(input_shape=(32, 32, 3)), 0.3)
    groups = {(each.groups, each.filters % 32) for each in narrow.layers if getattr(each, "groups", 1) > 1}
    assert groups == {(32, 0)}


def test_lambda_layers_have_fixed_channels() -> None:
    from converter.training.narrow import narrowed

    with pytest.raises(UsageError, match="Lambda layers"):
        narrowed(MODELS["resnext50-lambda"].build(input_shape=(32, 32, 3)), 0.5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50", "googlenet"])
def test_depth(name: str) -> None:
    spec = MODELS[name]
    shape = (max(64, spec.min_size), max(64, spec.min_size), spec.input_shape[2])
    small, half, whole = (spec.build(input_shape=shape, depth=depth).count_params() for depth in (0.1, 0.6, 1.0))
    assert small < half < whole or name == "resnet18"  # which has two blocks in a stage, or one
    assert small < whole == spec.build(input_shape=shape).count_params()


def test_no_depth_to_choose() -> None:
    for name in ("alexnet", "googlenet"):
        with pytest.raises(ValueError, match="depth"):
            MODELS[name].build(depth=2.0)


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights after an interruption in the third of four epochs are those of a training without one."""
    import converter
    from converter.training import store

    options: dict[str, Any] = {**FAST, "epochs": 3, "validation": 0.1, "test": 0.1, "patience": 0}
    data = digits(tmp_path / "digits")
    whole = converter.train("resnet18", data, output=tmp_path / "whole", **options)
    kept = store.Store.save

    def stopping(self: Any, model: Any, state: Any) -> None:
        kept(self, model, state)
        if len(state.epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.Store, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        converter.train("resnet18", data, output=tmp_path / "parts", **options)
    monkeypatch.setattr(store.Store, "save", kept)
    with pytest.raises(OutputError, match="go on with --resume"):
        converter.train("resnet18", data, output=tmp_path / "parts", **options)
    with pytest.raises(UsageError, match="has another batch"):
        converter.train("resnet18", data, output=tmp_path / "parts", resume=True, **{**options, "batch": 16})
    parts = converter.train("resnet18", data, output=tmp_path / "parts", resume=True, **options)
    for one, other in zip(parts.epochs, whole.epochs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-2)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "curves.svg", "history.json", "labels.txt", "model.about.json", "model.keras",
    ]  # fmt: skip
    with pytest.raises(OutputError, match="holds a trained model"):
        converter.train("resnet18", data, output=tmp_path / "parts", **options)
    with pytest.raises(UsageError, match="no stopped training"):
        converter.train("resnet18", data, output=tmp_path / "new", resume=True, **options)


def digits(folder: Path, count: int = 240) -> Path:
    """The first digits of scikit-learn that are 0, 1 or 2, as files."""
    from converter.data.samples import load_samples

    samples = load_samples("digits")
    for index in range(count):
        label = int(samples.labels[index])
        if label < 3:
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
            samples.read(index, "gray").image.save(folder / str(label) / f"{index}.png")
    return folder


def test_what_a_training_leaves(tmp_path: Path, cnnexport: Callable[..., Any]) -> None:
    data = digits(tmp_path / "digits")
    outcome = cnnexport(
        "train", "resnet18", "--data", data, "--input-shape", "32x32x1", "--width", "0.125", "--depth", "0.5",
        "--epochs", "6", "--batch", "8", "--logits", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    found = outcome.json
    assert found["classes"] == ["0", "1", "2"]
    assert sum(found["images"].values()) == len(list(data.rglob("*.png")))
    assert found["test_accuracy"] > 0.8
    assert "epoch 1/6: loss" in outcome.stderr
    directory = Path(found["directory"])
    assert directory == Path("trained/resnet18")
    history = json.loads((directory / "history.json").read_text())
    assert history["epochs"] == found["epochs"]
    assert [each["rate"] for each in found["epochs"]] == sorted(
        (each["rate"] for each in found["epochs"]), reverse=True
    )
    assert (directory / "curves.svg").read_text().count("<path") == 4
    assert (directory / "labels.txt").read_text() == "0\n1\n2\n"
    exported = cnnexport(directory / "model.keras", "-f", "onnx", "--samples", "3")
    assert exported.code == 0, exported.stderr
    manifest = json.loads(Path("artifacts/model/manifest.json").read_text())
    assert manifest["labels"] == ["0", "1", "2"]
    assert manifest["preprocessing"]["resize"]["how"] == "pad"
    assert manifest["outputs"][0]["activation"] == "linear"


def test_three_outputs_are_weighted() -> None:
    import keras

    from converter.core.data import TensorSpec
    from converter.training.fit import compile_model
    from converter.training.options import TrainOptions

    given = keras.Input((4,))
    outputs = [keras.layers.Dense(3, activation="softmax", name=name)(given) for name in ("main", "aux1", "aux2")]
    model = keras.Model(given, outputs)
    specs = tuple(TensorSpec(name, (None, 3), activation="softmax") for name in ("main", "aux1", "aux2"))
    compile_model(model, specs, TrainOptions())
    x, y = np.zeros((2, 4), np.float32), np.zeros(2, np.int64)
    found = model.evaluate(x, (y, y, y), verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(1.6 * np.log(3), rel=1e-5)


def test_rates() -> None:
    from converter.training.options import TrainOptions

    cosine, step, constant = (TrainOptions(8, rate=1.0, schedule=each) for each in ("cosine", "step", "constant"))
    assert [cosine.rate_at(epoch) for epoch in (0, 4)] == pytest.approx([1.0, 0.5])
    assert [step.rate_at(epoch) for epoch in (0, 3, 4, 6)] == [1.0, 1.0, 0.1, 0.01]
    assert constant.rate_at(7) == 1.0
    assert TrainOptions(optimizer="sgd").rate_at(0) == 0.05


def test_moving_averages_follow_and_are_put_back() -> None:
    import keras

    from converter.training.statistics import quick_statistics

    model = chain(keras.layers.BatchNormalization(), keras.layers.BatchNormalization(momentum=0.5))
    with quick_statistics(model, 40) as limit:
        assert limit == pytest.approx(0.9)
        assert [each.momentum for each in model.layers[1:]] == pytest.approx([0.9, 0.5])
    assert [each.momentum for each in model.layers[1:]] == [0.99, 0.5]


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cnnexport: Callable[..., Any]
) -> None:
    from converter.training import store

    def stopping(self: Any, model: Any, state: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store.Store, "save", stopping)
    outcome = cnnexport(
        "train", "resnet18", "--data", digits(tmp_path / "digits", 60), "--input-shape", "32x32x1", "--width", "0.125",
        "--depth", "0.5", "-q",
    )  # fmt: skip
    assert (outcome.code, outcome.stdout) == (130, "")
    assert "go on after the last whole epoch with --resume" in outcome.stderr


def test_it_stops_early(tmp_path: Path) -> None:
    import converter

    found = converter.train(
        "resnet18", digits(tmp_path / "digits", 120), output=tmp_path / "out", epochs=50, patience=1, rate=0.05,
        schedule="constant", **FAST,
    )  # fmt: skip
    assert found.stopped == "early"
    assert len(found.epochs) == found.best + 2 < 50


def test_a_full_disk(tmp_path: Path) -> None:
    """No file may become larger than a quarter of a megabyte, as on a disk that is full."""
    data = digits(tmp_path / "digits", 120)
    command = [
        sys.executable, "-m", "converter", "train", "resnet18", "--data", str(data), "--input-shape", "32x32x1",
        "--width", "0.25", "--depth", "0.5", "--epochs", "1", "-q", "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18)),
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "epoch 1 cannot be saved" in done.stderr
    assert "--resume" in done.stderr
    assert done.stdout == ""


def one_class(folder: Path) -> None:
    classes(folder, ("cat",))


def damaged(folder: Path) -> None:
    classes(folder)
    (folder / "cat" / "bad.jpg").write_text("this is text")


def few(folder: Path) -> None:
    classes(folder, count=2)


def good(folder: Path) -> None:
    classes(folder)


def unequal(folder: Path) -> None:
    classes(folder)
    photograph().save(folder / "stray.png")


@pytest.mark.parametrize(
    ("make", "model", "options", "code", "words"),
    [
        (Path.mkdir, "resnet18", (), 3, "no image in a class folder"),
        (one_class, "resnet18", (), 3, "one class only"),
        (damaged, "resnet18", ("--input-shape", "32x32x1", "--width", "0.1"), 3, "bad.jpg: not an image"),
        (few, "resnet18", (), 2, "too few for three parts"),
        (good, "resnet81", (), 2, "no such model"),
        (good, "resnet18", ("--epochs", "0"), 2, "--epochs"),
        (good, "resnet18", ("--rate", "-1"), 2, "--rate"),
        (good, "resnet18", ("--width", "0"), 2, "--width"),
        (good, "resnet18", ("--classes", "3"), 2, "--classes"),
        (good, "resnet18", ("--input-shape", "32x32x5"), 2, "not one image"),
        (good, "resnet18", ("--preprocessing", "magic"), 2, "no such preprocessing"),
        (good, "resnet18", ("--preprocessing", "caffe"), 2, "three channels"),
        (good, "vgg16", ("--depth", "0.5"), 2, "cannot be built with depth"),
        (good, "resnet18", ("--validation", "0.9", "--test", "0.9"), 2, "shares above 0"),
        (good, "tiny_nets:two_heads", (), 2, "the data have 2 classes"),
        (good, "resnext50-lambda", ("--width", "0.5"), 2, "Lambda layers"),
        (unequal, "resnet18", ("--width", "nan"), 2, "--width"),
    ],
)
def test_bad_input(
    make: Callable[[Path], None], model: str, options: tuple[str, ...], code: int, words: str,
    tmp_path: Path, cnnexport: Callable[..., Any],
) -> None:  # fmt: skip
    make(tmp_path / "data")
    outcome = cnnexport("train", model, "--data", tmp_path / "data", "--epochs", "1", "-q", *options)
    assert (outcome.code, outcome.stdout) == (code, ""), outcome.stderr
    assert words in outcome.stderr
    assert 1 <= len(outcome.stderr.splitlines()) <= 3
    assert not (tmp_path / "trained" / "resnet18" / "model.keras").exists()
