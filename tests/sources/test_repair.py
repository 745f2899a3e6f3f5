"""Files of older Keras versions, written here as those versions did, compared with the same model in Keras 3."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from model_files import Array, conv, write_legacy

from converter import sources
from converter.core.data import Source, SourceOptions
from converter.core.errors import InputError
from converter.core.foreign import Json, JsonObject, KerasModel, KerasObject
from converter.sources.inspection import operations, vocabulary
from converter.sources.repair.repair import repair

RNG = np.random.default_rng(5)
IMAGES = RNG.random((3, 8, 8, 3), np.float32)


def old(name: str, class_name: str, nodes: list[Json] | None = None, **config: Json) -> JsonObject:
    """A layer of a functional model as Keras 2 spells it: no module, the name beside the configuration."""
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes or []}


def image(name: str = "img", shape: tuple[int, ...] = (8, 8, 3)) -> JsonObject:
    return old(name, "InputLayer", batch_input_shape=[None, *shape], dtype="float32", sparse=False, ragged=False)


def functional(
    *parts: JsonObject, output: list[Json], inputs: list[Json] | None = None, name: str = "model_1"
) -> JsonObject:
    references = {"input_layers": inputs or [["img", 0, 0]], "output_layers": output}
    return {"class_name": "Model", "config": {"name": name, "layers": list(parts), **references}}


def load(path: Path, **options: object) -> Source:
    return sources.load(str(path), SourceOptions(**options))


def same(source: Source, reference: KerasModel, x: Array = IMAGES) -> None:
    np.testing.assert_allclose(np.asarray(source.model(x)), np.asarray(reference(x)), rtol=1e-5, atol=1e-5)


def dense(name: str, inputs: int, units: int) -> dict[str, Array]:
    kernel = RNG.normal(size=(inputs, units)).astype(np.float32)
    return {f"{name}/kernel:0": kernel, f"{name}/bias:0": RNG.normal(size=units).astype(np.float32)}


CONV: JsonObject = {"filters": 4, "kernel_size": [3, 3], "padding": "valid", "data_format": "channels_last"}
SCALING = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_avg", "dtype": "float32", "seed": None},
}


@pytest.mark.parametrize("as_list", [True, False])
def test_sequential_of_keras_2(tmp_path: Path, as_list: bool) -> None:
    stack = [
        old("c", "Conv2D", **CONV, batch_input_shape=[None, 8, 8, 3], dtype="float32", kernel_initializer=SCALING),
        old("a", "Activation", activation="relu"),
        old("f", "Flatten"),
        old("d", "Dense", units=2, activation="softmax"),
    ]
    for part in stack:
        del part["inbound_nodes"], part["name"]
    config = {"class_name": "Sequential", "config": stack if as_list else {"name": "seq", "layers": stack}}
    weights = {"c": conv(), "a": {}, "f": {}, "d": dense("d", 144, 2)}
    source = load(write_legacy(tmp_path / "m.dat", config, weights).rename(tmp_path / "model.h5"))
    reference = keras.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(2, "softmax")]
    )
    reference.set_weights([array for part in weights.values() for array in part.values()])
    same(source, reference)
    assert source.kind == "file"
    assert source.name == "model"
    assert source.detail["keras_version"] == "2.3.1"
    assert not source.untrained
    notes = "\n".join(source.repairs)
    assert "input shape of a Sequential model was an argument of its first layer" in notes
    assert ("plain list" in notes) == as_list
    assert "VarianceScaling: dropped dtype" in notes


def test_functional_of_keras_2(tmp_path: Path) -> None:
    depthwise = {"kernel_size": [3, 3], "padding": "same", "groups": 1, "depth_multiplier": 1}
    config = functional(
        image(),
        old("c", "Conv2D", [[["img", 0, 0, {}]]], **CONV, kernel_initializer=SCALING),
        old("bn", "BatchNormalization", [[["c", 0, 0, {}]]], axis=[3], epsilon=0.01, fused=None),
        old("r", "LeakyReLU", [[["bn", 0, 0, {}]]], alpha=0.25),
        old("dw/x", "DepthwiseConv2D", [[["r", 0, 0, {}]]], **depthwise),
        old("t", "ThresholdedReLU", [[["dw/x", 0, 0, {}]]], theta=0.5),
        old("add", "Add", [[["t", 0, 0, {}], ["r", 0, 0, {}]]]),
        output=[["add", 0, 0]],
    )
    statistics = {f"bn/{part}:0": RNG.uniform(0.5, 1.5, 4).astype(np.float32) for part in ("g", "b", "m", "v")}
    kernel = {
        "dw/x/depthwise_kernel:0": RNG.normal(size=(3, 3, 4, 1)).astype(np.float32),
        "dw/x/bias:0": RNG.normal(size=4).astype(np.float32),
    }
    path = write_legacy(tmp_path / "m.hdf5", config, {"c": conv(), "bn": statistics, "dw/x": kernel})
    source = load(path)
    x = layers.Input((8, 8, 3))
    c, bn, dw = layers.Conv2D(4, 3), layers.BatchNormalization(epsilon=0.01), layers.DepthwiseConv2D(3, padding="same")
    r = layers.LeakyReLU(0.25)(bn(c(x)))
    reference = keras.Model(x, layers.Add()([layers.ReLU(threshold=0.5)(dw(r)), r]))
    c.set_weights(list(conv().values()))
    bn.set_weights(list(statistics.values()))
    dw.set_weights(list(kernel.values()))
    same(source, reference)
    assert [layer.name for layer in source.model.layers][4] == "dw_x"
    notes = "\n".join(source.repairs)
    for word in ("slashes", "axis is a number", "alpha is now negative_slope", "dropped groups", "batch_shape"):
        assert word in notes


def test_swapped_layers_of_equal_shape_are_paired_by_name(tmp_path: Path) -> None:
    """Names with slashes are changed; weights must still be paired by name, and not by position, which differs here."""
    config = functional(
        image(),
        old("x/a", "Conv2D", [[["img", 0, 0, {}]]], **CONV),
        old("x/b", "Conv2D", [[["img", 0, 0, {}]]], **CONV),
        old("s", "Subtract", [[["x/a", 0, 0, {}], ["x/b", 0, 0, {}]]]),
        output=[["s", 0, 0]],
    )
    a, b = conv("x/a", seed=1), conv("x/b", seed=2)
    source = load(write_legacy(tmp_path / "m.h5", config, {"x/b": b, "x/a": a}))
    x = layers.Input((8, 8, 3))
    one, two = layers.Conv2D(4, 3), layers.Conv2D(4, 3)
    reference = keras.Model(x, one(x) - two(x))
    one.set_weights(list(a.values()))
    two.set_weights(list(b.values()))
    same(source, reference)


@pytest.mark.parametrize("kind", ["Model", "Sequential"])
def test_a_nested_model_counts_its_calls_from_one(tmp_path: Path, kind: str) -> None:
    inner = functional(
        image("inner_img"), old("c", "Conv2D", [[["inner_img", 0, 0, {}]]], **CONV), output=[["c", 0, 0]]
    )
    inner["config"]["input_layers"] = [["inner_img", 0, 0]]
    if kind == "Sequential":
        part = old("c", "Conv2D", **CONV, batch_input_shape=[None, 8, 8, 3])
        inner = {"class_name": "Sequential", "config": {"name": "model_1", "layers": [part]}}
    base = {**inner, "name": "base", "inbound_nodes": [[["img", 0, 0, {"training": False}]], [["pad", 0, 0, {}]]]}
    base["config"]["name"] = "base"
    config = functional(
        image(),
        old("pad", "ReLU", [[["img", 0, 0, {}]]]),
        base,
        old("sub", "Subtract", [[["base", 1, 0, {}], ["base", 2, 0, {}]]]),
        output=[["sub", 0, 0], ["base", 2, 0]],
    )
    source = load(write_legacy(tmp_path / "m.h5", config, {"base": conv()}))
    shared = layers.Conv2D(4, 3)
    x = layers.Input((8, 8, 3))
    first, second = shared(x), shared(layers.ReLU()(x))
    reference = keras.Model(x, [first - second, second])
    shared.set_weights(list(conv().values()))
    shifted = IMAGES - 0.5
    for ours, theirs in zip(source.model(shifted), reference(shifted), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-5)


def test_tensorflow_operations_between_layers(tmp_path: Path) -> None:
    def operation(name: str, function: str, node: Json) -> JsonObject:
        return old(name, "SlicingOpLambda" if "getitem" in function else "TFOpLambda", [node], function=function)

    slices = {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": 1, "stop": None, "step": None}]}
    config = functional(
        image(),
        operation("tf.math.truediv", "math.truediv", ["img", 0, 0, {"y": 127.5, "name": None}]),
        operation("tf.math.subtract", "math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["tf.math.truediv", 0, 0]}]),
        operation("tf.getitem", "__operators__.getitem", ["tf.math.subtract", 0, 0, slices]),
        operation(
            "tf.concat", "concat", [["tf.getitem", 0, 0, {"axis": -1}], ["tf.math.subtract", 0, 0, {"axis": -1}]]
        ),
        operation("tf.mean", "math.reduce_mean", ["tf.concat", 0, 0, {"axis": [1, 2], "keepdims": True}]),
        operation("tf.squeeze", "compat.v1.squeeze", ["tf.mean", 0, 0, {"axis": [1, 2]}]),
        output=[["tf.squeeze", 0, 0]],
    )
    source = load(write_legacy(tmp_path / "m.h5", config, {"none": {}}))
    value = 1.0 - IMAGES / 127.5
    expected = np.concatenate([value[..., 1:], value], -1).mean((1, 2))
    np.testing.assert_allclose(np.asarray(source.model(IMAGES)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "kwargs"),
    [("math.bincount", {}), ("math.reduce_mean", {"weird": 3}), ("nn.softmax", {"dim": 0}), ("__import__('os')", {})],
)
def test_an_unknown_operation_is_an_error(function: str, kwargs: JsonObject) -> None:
    node = ["img", 0, 0, kwargs]
    config = functional(image(), old("op", "TFOpLambda", [node], function=function), output=[["op", 0, 0]])
    with pytest.raises(InputError, match="layer op: "):
        repair(config, old=True)


def sequential(*parts: JsonObject) -> JsonObject:
    return {"class_name": "Sequential", "config": {"name": "seq", "layers": list(parts)}}


def test_an_input_gets_a_name_that_no_layer_has(tmp_path: Path) -> None:
    first = old("input", "Conv2D", **CONV, batch_input_shape=[None, 8, 8, 3])
    config = sequential(first, old("input_", "ReLU"))
    source = load(write_legacy(tmp_path / "m.h5", config, {"input": conv(), "input_": {}}))
    reference = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.ReLU()])
    reference.set_weights(list(conv().values()))
    same(source, reference)


def test_names_that_differ_in_a_slash_stay_apart(tmp_path: Path) -> None:
    """The weights of both have one shape, so that only names tell them apart."""
    one, other = dense("a/b", 3, 3), dense("a_b", 3, 3)
    parts = [old(name, "Dense", units=3, activation="linear", use_bias=True) for name in ("a/b", "a_b")]
    parts[0]["config"]["batch_input_shape"] = [None, 3]
    source = load(write_legacy(tmp_path / "m.h5", sequential(*parts), {"a/b": one, "a_b": other}))
    reference = keras.Sequential([layers.Input((3,)), layers.Dense(3), layers.Dense(3)])
    reference.set_weights([*one.values(), *other.values()])
    same(source, reference, IMAGES[:, 0, 0])


def test_a_name_that_changed_in_a_nested_model_changes_none_outside() -> None:
    inner = functional(
        image("x"), old("c/r", "ReLU", [[["x", 0, 0, {}]]]), output=[["c/r", 0, 0]], inputs=[["x", 0, 0]]
    )
    inner["config"]["name"] = "base"
    base = {**inner, "name": "base", "inbound_nodes": [[["img", 0, 0, {}]]]}
    last = old("c_r", "ReLU", [[["base", 1, 0, {}]]])
    found = repair(functional(image(), base, last, output=[["c_r", 0, 0]]), old=True)
    assert found.renamed == {}
    assert [layer["name"] for layer in found.config["config"]["layers"]] == ["img", "base", "c_r"]


def keras1_model(**change: Json) -> JsonObject:
    first = {"nb_filter": 4, "nb_row": 3, "nb_col": 3, "border_mode": "same", "subsample": [2, 2], "dim_ordering": "tf"}
    first |= {"init": "glorot_uniform", "W_regularizer": None, "bias": True, "activation": "relu"}
    branch = {
        "nb_filter": 4,
        "nb_row": 1,
        "nb_col": 1,
        "border_mode": "valid",
        "subsample": [2, 2],
        "dim_ordering": "tf",
    }
    merge = {"mode": "concat", "concat_axis": -1, "output_shape": None, "arguments": {}}
    return functional(
        old("img", "InputLayer", batch_input_shape=[None, 8, 8, 3], input_dtype="float32", sparse=False),
        old("c1", "Convolution2D", [[["img", 0, 0]]], **first | change),
        old("c2", "AtrousConvolution2D", [[["img", 0, 0]]], **branch, atrous_rate=[1, 1]),
        old("m", "Merge", [[["c1", 0, 0], ["c2", 0, 0]]], **merge),
        old("b", "BatchNormalization", [[["m", 0, 0]]], mode=0, axis=-1, epsilon=0.001, momentum=0.99),
        old(
            "p",
            "MaxPooling2D",
            [[["b", 0, 0]]],
            pool_size=[2, 2],
            strides=[2, 2],
            border_mode="valid",
            dim_ordering="tf",
        ),
        old("f", "Flatten", [[["p", 0, 0]]]),
        old("o", "Dropout", [[["f", 0, 0]]], p=0.5),
        old(
            "d", "Dense", [[["o", 0, 0]]], output_dim=2, init="normal", activation="softmax", input_dim=None, bias=True
        ),
        output=[["d", 0, 0]],
    )


def test_keras_1(tmp_path: Path) -> None:
    weights = {
        "c1": {"c1_W": RNG.normal(size=(3, 3, 3, 4)), "c1_b": RNG.normal(size=4)},
        "c2": {"c2_W": RNG.normal(size=(1, 1, 3, 4)), "c2_b": RNG.normal(size=4)},
        "b": {f"b_{part}": RNG.uniform(0.5, 1.5, 8) for part in ("gamma", "beta", "running_mean", "running_std")},
        "d": {"d_W": RNG.normal(size=(32, 2)), "d_b": RNG.normal(size=2)},
    }
    source = load(write_legacy(tmp_path / "m.h5", keras1_model(), weights, version="1.2.2"))
    x = layers.Input((8, 8, 3))
    c1, c2 = layers.Conv2D(4, 3, 2, "same", activation="relu"), layers.Conv2D(4, 1, 2)
    b, d = layers.BatchNormalization(), layers.Dense(2, "softmax")
    h = layers.MaxPooling2D(2)(b(layers.Concatenate()([c1(x), c2(x)])))
    reference = keras.Model(x, d(layers.Flatten()(h)))
    for part, name in ((c1, "c1"), (c2, "c2"), (b, "b"), (d, "d")):
        part.set_weights(list(weights[name].values()))
    same(source, reference)
    assert any("Keras 1" in note for note in source.repairs)


def test_theano_kernels_are_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "m.h5", keras1_model(dim_ordering="th"), {})
    with pytest.raises(InputError, match="layer c1: its kernels are in Theano's channels-first order"):
        load(path)


def test_an_argument_that_changes_the_result_is_not_dropped(tmp_path: Path) -> None:
    part = old("dw", "DepthwiseConv2D", [[["img", 0, 0, {}]]], kernel_size=[3, 3], groups=3)
    path = write_legacy(tmp_path / "m.h5", functional(image(), part, output=[["dw", 0, 0]]), {})
    with pytest.raises(InputError, match="layer dw: Keras 3's DepthwiseConv2D has no argument groups"):
        load(path)


def test_weights_alone_need_a_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_legacy(tmp_path / "w.h5", None, {"c": conv(), "d": dense("d", 144, 2)})
    with pytest.raises(InputError, match=r"holds weights only, no architecture\n.*--builder"):
        load(path)
    code = (
        "from keras import Input, Sequential, layers\n"
        "def build(units=2):\n"
        "    return Sequential([Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(units)])\n"
    )
    (tmp_path / "my_architecture.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    source = load(path, builder="my_architecture:build")
    np.testing.assert_array_equal(source.model.get_weights()[0], conv()["c/kernel:0"])
    assert source.detail["builder"] == "my_architecture:build"
    with pytest.raises(InputError, match="layer dense"):
        load(path, builder="my_architecture:build", kwargs={"units": 3})


def test_a_configuration_of_keras_3_is_not_changed() -> None:
    x = layers.Input((8, 8, 3))
    nested = keras.Sequential([layers.Conv2D(2, 3)], name="nested")
    h = nested(x)
    model = keras.Model(x, [layers.Dense(2, kernel_regularizer="l2")(h) * 2 + h[..., :1], h])
    config = keras.saving.serialize_keras_object(model)
    repaired = repair(config, old=False)
    assert repaired.notes == ()
    assert repaired.renamed == {}
    again = keras.saving.deserialize_keras_object(repaired.config)
    again.set_weights(model.get_weights())
    for ours, theirs in zip(again(IMAGES), model(IMAGES), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_the_vocabulary_is_that_of_keras() -> None:
    public = {name for name, value in vars(layers).items() if inspect.isclass(value)}
    assert public == vocabulary.LAYERS | set(vocabulary.RUNS_CODE)
    for module, names in vocabulary.MODULES.items():
        found: KerasObject = keras
        for part in module.split(".")[1:]:
            found = getattr(found, part)
        assert [name for name in names if not inspect.isclass(getattr(found, name, None))] == [], module
    assert all(callable(getattr(keras.activations, name)) for name in vocabulary.ACTIVATIONS)


def test_the_operations_are_those_of_keras() -> None:
    package = importlib.import_module("keras.src.ops")
    found: dict[str, set[str]] = {}
    for info in pkgutil.iter_modules(package.__path__, "keras.src.ops."):
        if info.name.endswith("_test") or info.name in ("keras.src.ops.operation", "keras.src.ops.function"):
            continue
        for name, value in vars(importlib.import_module(info.name)).items():
            if inspect.isclass(value) and issubclass(value, keras.Operation) and value.__module__ == info.name:
                found.setdefault(info.name, set()).add(name)
    assert found == {module: set(names) for module, names in operations.OPERATIONS.items()}
