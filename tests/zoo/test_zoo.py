"""The zoo: its table, every architecture against its published figures, and the calibration of untrained weights."""

from __future__ import annotations

import gc
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from keras import layers

from zoo import MODELS, ModelSpec
from zoo.calibrate import calibrate
from zoo.resnext50 import grouped_convolution
from zoo.resnext50_lambda import sliced_convolution

Array = npt.NDArray[np.generic]

NAMES = ["resnext50", "resnext50-lambda", "resnet50", "resnet18", "alexnet", "vgg16", "googlenet", "xception"]


def images(shape: tuple[int, int, int], count: int = 8, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Array:
    """Smooth random images (count, H, W, C) in [low, high], each with another colour and contrast."""
    height, width, channels = shape
    rows, columns = np.linspace(0.0, 3.0, height), np.linspace(0.0, 3.0, width)
    batch = []
    for index in range(count):
        generator = np.random.default_rng([seed, index])
        waves = sum(
            amplitude
            * np.sin(rows[:, None, None] * generator.uniform(-4, 4, channels) + generator.uniform(0, 6, channels))
            * np.sin(columns[None, :, None] * generator.uniform(-4, 4, channels) + generator.uniform(0, 6, channels))
            for amplitude in (1.0, 0.7, 0.5)
        )
        image = 0.5 + generator.uniform(0.1, 0.3) * waves + generator.uniform(-0.2, 0.2, channels)
        batch.append(low + (high - low) * np.clip(image, 0.0, 1.0))
    return np.asarray(batch, np.float32)


def logits_of(model: keras.Model, inputs: Array) -> list[Array]:
    """Centred log-probabilities of every output, float64, in the order of the model's outputs."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # a grouped convolution would be compiled for seconds
    try:
        outputs = model(inputs, training=False)
    finally:
        tf.config.run_functions_eagerly(before)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    logs = [np.log(keras.ops.convert_to_numpy(output).astype(np.float64)) for output in outputs]
    return [log - log.mean(axis=-1, keepdims=True) for log in logs]


def distance(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def smallest_distance(logits: Array) -> float:
    return min(distance(a, b) for i, a in enumerate(logits) for j, b in enumerate(logits) if i != j)


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> Iterator[tuple[ModelSpec, keras.Model]]:
    """Every architecture once, at its default shape and number of classes."""
    spec = MODELS[request.param]
    yield spec, spec.build()
    keras.utils.clear_session(free_memory=True)


# The table


def test_the_table_imports_no_library() -> None:
    code = (
        "import sys, zoo; list(zoo.MODELS.values());"
        "print([m for m in ('keras', 'tensorflow', 'numpy', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_is_in_order_and_keyed_by_name() -> None:
    assert list(MODELS) == NAMES
    assert [spec.name for spec in MODELS.values()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_is_json_and_its_range_is_what_it_computes(name: str) -> None:
    preprocessing = json.loads(json.dumps(MODELS[name].preprocessing))
    low, high = preprocessing["range"]
    extremes = [pixel * preprocessing["scale"] - mean for pixel in (0, 255) for mean in preprocessing["mean"]]
    assert min(extremes) == pytest.approx(low)
    assert max(extremes) == pytest.approx(high)
    assert len(preprocessing["mean"]) == MODELS[name].input_shape[2]
    assert preprocessing["channels"] in {"rgb", "bgr", "gray"}


def test_published_weights_are_complete() -> None:
    published = {name: spec.published for name, spec in MODELS.items() if spec.published}
    assert set(published) == {"resnet50", "xception"}
    for source in published.values():
        assert source.url.startswith("https://")
        assert source.url.endswith("/" + source.filename)
        assert re.fullmatch("[0-9a-f]{32}", source.md5)


# The architectures


def test_the_architecture_has_exactly_its_figures(built: tuple[ModelSpec, keras.Model]) -> None:
    spec, model = built
    assert model.count_params() == spec.parameters
    if spec.non_trainable is not None:
        assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == spec.non_trainable
    if spec.layers is not None:
        assert len(model.layers) == spec.layers
    assert model.name == spec.name
    assert tuple(model.output_names) == spec.outputs
    assert model.input_shape == (None, *spec.input_shape)
    assert [output.shape for output in model.outputs] == [(None, spec.classes)] * len(spec.outputs)
    for name in spec.outputs:
        assert model.get_layer(name).activation is keras.activations.softmax


def test_layer_names_are_chosen_and_not_counted(built: tuple[ModelSpec, keras.Model]) -> None:
    _, model = built
    automatic = re.compile(
        r"(conv2d|dense|batch_normalization|re_lu|add|lambda|activation|concatenate|dropout|max_pooling2d|"
        r"zero_padding2d|separable_conv2d|average_pooling2d|global_average_pooling2d|input_layer)(_\d+)?"
    )
    assert [layer.name for layer in model.layers if automatic.fullmatch(layer.name)] == []


FIGURES = {  # as the architectures are specified, so that the table itself cannot drift
    "resnext50": (23_056_388, 4, (224, 224, 3)),
    "resnext50-lambda": (23_056_388, 4, (224, 224, 3)),
    "resnet50": (25_636_712, 1000, (224, 224, 3)),
    "resnet18": (11_186_186, 10, (224, 224, 1)),
    "alexnet": (58_299_082, 10, (227, 227, 1)),
    "vgg16": (134_300_362, 10, (224, 224, 1)),
    "googlenet": (12_693_326, 10, (224, 224, 3)),
    "xception": (22_910_480, 1000, (299, 299, 3)),
}


def test_the_table_states_the_specified_figures() -> None:
    assert {n: (s.parameters, s.classes, s.input_shape) for n, s in MODELS.items()} == FIGURES
    assert {n: s.layers for n, s in MODELS.items() if s.layers} == {"resnext50": 177, "resnext50-lambda": 1201}
    assert {n: s.non_trainable for n, s in MODELS.items() if s.non_trainable} == {"resnet18": 7_808, "xception": 54_528}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "resnext50-lambda"])
def test_the_minimum_size_is_that_of_the_architecture(name: str) -> None:
    spec = MODELS[name]
    channels = spec.input_shape[2]
    least = (spec.min_size, spec.min_size, channels)
    model = spec.build(classes=3, input_shape=least)
    assert [output.shape for output in model.outputs] == [(None, 3)] * len(spec.outputs)

    small = (spec.min_size, spec.min_size - 1, channels)
    with pytest.raises(ValueError, match=name) as caught:
        spec.build(input_shape=small)
    assert "\n" not in str(caught.value)
    if spec.min_size > 1:
        assert f"{spec.min_size}x{spec.min_size}" in str(caught.value)
        with pytest.raises(ValueError, match=r"negative|greater than|dimension"):  # Keras's own refusal
            importlib.import_module(spec.module).build(classes=3, input_shape=small, logits=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (32, 32)}, r"\(32, 32\)"),
        ({"input_shape": (32, 0, 3)}, r"\(32, 0, 3\)"),
        ({"input_shape": (32, 32.0, 3)}, r"32\.0"),
        ({"input_shape": (None, None, 3)}, "None"),
        ({"classes": 0}, "0 classes"),
        ({"classes": True}, "True classes"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=rf"resnet18: .*{words}") as caught:
        MODELS["resnet18"].build(**arguments)
    assert "\n" not in str(caught.value)


def test_shape_channels_and_classes_can_be_chosen() -> None:
    model = MODELS["resnet18"].build(classes=7, input_shape=[33, 20, 5])
    assert model.input_shape == (None, 33, 20, 5)
    assert logits_of(model, np.zeros((2, 33, 20, 5), np.float32))[0].shape == (2, 7)


def test_a_channels_first_setting_is_neither_used_nor_changed() -> None:
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = MODELS["resnet18"].build(input_shape=(16, 16, 1))
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_image_data_format(before)
    assert {layer.data_format for layer in model.layers if isinstance(layer, layers.Conv2D)} == {"channels_last"}


def test_logits_drop_the_softmax_and_nothing_else() -> None:
    spec = MODELS["googlenet"]
    shape = (32, 32, 3)
    probabilities, logits = spec.build(input_shape=shape), spec.build(input_shape=shape, logits=True)
    inputs = images(shape, 2)
    calibrate(probabilities, inputs, 0)
    logits.set_weights(probabilities.get_weights())
    assert [layer.name for layer in logits.layers] == [layer.name for layer in probabilities.layers]
    assert logits.output_names == ["main", "aux1", "aux2"]
    for raw, centred in zip(logits(inputs), logits_of(probabilities, inputs), strict=True):
        raw = keras.ops.convert_to_numpy(raw)
        assert raw - raw.mean(axis=-1, keepdims=True) == pytest.approx(centred, abs=1e-4)
        assert np.abs(raw.sum(axis=-1) - 1.0).max() > 1e-3


def test_googlenet_without_its_auxiliary_heads() -> None:
    model = MODELS["googlenet"].build()
    assert keras.Model(model.input, model.outputs[0]).count_params() == 5_983_802
    assert model.get_layer("pool4").output.shape == (None, 7, 7, 832)


def test_resnet50_strides_in_the_first_1x1_and_keeps_its_names() -> None:
    model = MODELS["resnet50"].build(input_shape=(197, 197, 3))
    for name, stride in (("res2a_branch2a", 1), ("res3a_branch2a", 2), ("res3a_branch2b", 1), ("res5a_branch1", 2)):
        assert model.get_layer(name).strides == (stride, stride)
    blocks = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}
    expected = {"conv1", "bn_conv1", "fc1000"}
    for stage, letters in blocks.items():
        for letter in letters:
            branches = ["2a", "2b", "2c"] + (["1"] if letter == "a" else [])
            expected |= {f"{kind}{stage}{letter}_branch{branch}" for kind in ("res", "bn") for branch in branches}
    assert {layer.name for layer in model.layers if layer.weights} == expected
    assert all(layer.use_bias for layer in model.layers if isinstance(layer, layers.Conv2D))
    assert {layer.epsilon for layer in model.layers if isinstance(layer, layers.BatchNormalization)} == {1e-3}


def test_resnext50_has_32_groups_and_no_biases() -> None:
    model = MODELS["resnext50"].build(input_shape=(32, 32, 3))
    grouped = [layer for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.groups > 1]
    assert [layer.groups for layer in grouped] == [32] * 16
    assert [layer.name for layer in grouped if layer.strides == (2, 2)] == [f"stage{s}_block1_conv2" for s in (2, 3, 4)]
    biased = [layer.name for layer in model.layers if getattr(layer, "use_bias", False)]
    assert biased == ["stem_conv", "predictions"]
    assert {layer.epsilon for layer in model.layers if isinstance(layer, layers.BatchNormalization)} == {1.001e-5}


def test_sliced_groups_compute_the_grouped_convolution() -> None:
    inputs = keras.Input((6, 6, 64), name="input")
    grouped = keras.Model(inputs, grouped_convolution(inputs, 64, 2, "conv"))
    sliced = keras.Model(inputs, sliced_convolution(inputs, 64, 2, "conv"))
    (kernel,) = grouped.get_weights()
    sliced.set_weights(np.split(kernel, 32, axis=-1))
    batch = np.random.default_rng(0).standard_normal((2, 6, 6, 64), dtype=np.float32)
    tf.config.run_functions_eagerly(True)
    try:
        expected = grouped(batch).numpy()
    finally:
        tf.config.run_functions_eagerly(False)
    assert sliced(batch).numpy() == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.1


@pytest.mark.slow
def test_resnext50_lambda_computes_what_resnext50_computes() -> None:
    shape = (32, 32, 3)
    grouped, sliced = MODELS["resnext50"].build(input_shape=shape), MODELS["resnext50-lambda"].build(input_shape=shape)
    inputs = images(shape, 4)
    calibrate(grouped, inputs, 0)
    for layer in grouped.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.Conv2D) and layer.groups == 32:
            for c, kernel in enumerate(np.split(weights[0], 32, axis=-1)):
                sliced.get_layer(f"{layer.name}_group{c}").set_weights([kernel])
        elif weights:
            sliced.get_layer(layer.name).set_weights(weights)
    reference = logits_of(grouped, inputs)[0]
    assert smallest_distance(reference) > 0.05
    assert distance(logits_of(sliced, inputs)[0], reference) < 1e-4


def test_xception_is_the_one_of_keras_applications() -> None:
    ours = MODELS["xception"].build()
    theirs = keras.applications.Xception(weights=None)
    shapes = [[tuple(weight.shape) for weight in layer.weights] for layer in theirs.layers if layer.weights]
    assert [[tuple(weight.shape) for weight in layer.weights] for layer in ours.layers if layer.weights] == shapes
    ordered = zip((a for a in ours.layers if a.weights), (b for b in theirs.layers if b.weights), strict=True)
    for a, b in ordered:  # by topology: equal shapes side by side must not change places
        assert a.name == b.name or ("_shortcut" in a.name and b.name.startswith(("conv2d", "batch_normalization")))
    named = {layer.name for layer in theirs.layers if layer.name.startswith(("block", "avg_pool", "predictions"))}
    assert len(named) > 100
    assert named <= {layer.name for layer in ours.layers}


# The calibration


def small_model(grouped: bool = False) -> keras.Model:
    """A small model with every kind of layer that the calibration treats."""
    inputs = keras.Input((12, 12, 4), name="input")
    x = layers.Conv2D(8, 3, groups=2 if grouped else 1, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(8, 3, use_bias=False, name="separable")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.PReLU(name="prelu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="head")(x))


def test_calibration_depends_only_on_its_seed() -> None:
    inputs = images((12, 12, 4))
    weights = []
    for state, seed in ((1, 3), (2, 3), (2, 4)):
        keras.utils.set_random_seed(state)
        model = small_model()
        calibrate(model, inputs, seed)
        weights.append(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def test_calibration_gives_every_layer_unit_variance_and_visible_biases() -> None:
    model = small_model()
    inputs = images((12, 12, 4))
    calibrate(model, inputs, 0)
    for name in ("conv", "depthwise", "hidden", "head"):
        layer = model.get_layer(name)
        activation, layer.activation = layer.activation, keras.activations.linear
        values = keras.ops.convert_to_numpy(layer(keras.Model(model.input, layer.input)(inputs)))
        layer.activation = activation
        values = values.reshape(-1, values.shape[-1])
        assert values.var(axis=0).mean() == pytest.approx(1.0, rel=1e-2)
        assert values.mean(axis=0) == pytest.approx(np.full(values.shape[1], 0.0 if name == "head" else 0.8), abs=0.5)
        assert np.all(layer.bias.numpy() != 0.0)
    for name in ("bn", "bn2"):
        layer = model.get_layer(name)
        seen = keras.ops.convert_to_numpy(keras.Model(model.input, layer.input)(inputs))
        assert layer.moving_mean.numpy() == pytest.approx(seen.mean(axis=(0, 1, 2)), rel=1e-3, abs=1e-4)
        assert layer.moving_variance.numpy() == pytest.approx(seen.var(axis=(0, 1, 2)), rel=1e-2)
        assert layer.gamma.numpy().min() >= 0.5
        assert layer.gamma.numpy().max() <= 1.5
        assert np.unique(layer.beta.numpy()).size == 8


def test_calibration_leaves_layers_and_settings_as_they_were() -> None:
    model = small_model(grouped=True)
    calibrate(model, images((12, 12, 4)), 0)
    assert not tf.config.functions_run_eagerly()
    assert all("call" not in vars(layer) for layer in model.layers)
    assert model.get_layer("conv").activation is keras.activations.relu

    broken = np.full((8, 12, 12, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="conv: NaN or Inf"):
        calibrate(model, broken, 0)
    assert not tf.config.functions_run_eagerly()
    assert all("call" not in vars(layer) for layer in model.layers)
    assert model.get_layer("conv").activation is keras.activations.relu


def test_calibration_reaches_nested_shared_and_subclassed_layers() -> None:
    class Twice(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.shared = layers.Dense(6, activation="relu")
            self.inner = keras.Sequential([layers.Flatten(), layers.Dense(6), layers.BatchNormalization()])
            self.head = layers.Dense(3, activation="softmax")

        def call(self, inputs: dict[str, Array]) -> tf.Tensor:
            x = self.inner(inputs["image"])
            return self.head(self.shared(self.shared(x)))

    model = Twice()
    inputs = {"image": images((4, 4, 2))}
    model(inputs)
    calibrate(model, inputs, 0)
    x = model.inner(inputs["image"])
    first = x @ model.shared.kernel + model.shared.bias
    assert first.numpy().var(axis=0).mean() == pytest.approx(1.0, rel=1e-2)
    assert model.inner.layers[2].moving_mean.numpy() == pytest.approx(
        model.inner.layers[1](model.inner.layers[0](inputs["image"])).numpy().mean(axis=0), abs=1e-4
    )
    assert smallest_distance(np.log(model(inputs).numpy())) > 0.05


@pytest.mark.parametrize("count", [1, 2])
def test_calibration_survives_few_or_equal_samples(count: int) -> None:
    model = small_model()
    calibrate(model, np.repeat(images((12, 12, 4), 1), count, axis=0), 0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert smallest_distance(logits_of(model, images((12, 12, 4), seed=1))[0]) > 0.01


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnext50", 48), ("resnet18", 48), ("alexnet", 99), ("googlenet", 64), ("xception", 48)],
)
def test_calibrated_outputs_differ_between_samples_and_kernels(name: str, size: int) -> None:
    spec = MODELS[name]
    shape = (size, size, spec.input_shape[2])
    low, high = spec.preprocessing["range"]
    model = spec.build(classes=10, input_shape=shape)
    inputs = images(shape, low=low, high=high)
    calibrate(model, inputs, 0)
    before = logits_of(model, inputs)
    for logits in before:
        assert smallest_distance(logits) > 0.05
        assert 0.3 < logits.std(axis=-1).mean() < 3.0

    convolutions = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.SeparableConv2D))]
    for layer in (convolutions[0], convolutions[len(convolutions) // 2], convolutions[-1]):
        kernel = layer.weights[0]
        values = kernel.numpy()
        kernel.assign(values * 1.001)
        moved = zip(logits_of(model, inputs), before, strict=True)
        assert max(distance(a, b) for new, old in moved for a, b in zip(new, old, strict=True)) > 3e-4, layer.name
        kernel.assign(values)
    del model
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_calibrated_outputs_at_full_size(name: str) -> None:
    spec = MODELS[name]
    low, high = spec.preprocessing["range"]
    model = spec.build()
    calibrate(model, images(spec.input_shape, low=low, high=high), 0)
    for logits in logits_of(model, images(spec.input_shape, seed=1, low=low, high=high)):
        assert smallest_distance(logits) > 0.05
    del model
    gc.collect()
