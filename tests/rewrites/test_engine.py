"""What holds for every rule: proofs, whole models, nesting, outputs, files, training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from grouped_models import (
    Slicer,
    applied,
    bound_lambda,
    closed_lambda,
    concatenate_layer,
    gap,
    getitem,
    grouped_model,
    kinds,
    late_lambda,
    numbers,
    randomize,
    reasons,
    sample,
)
from keras import layers

from converter.core.foreign import KerasModel, Site, Tensor
from converter.rewrites import REWRITES, Rule, engine, equivalence, grouped_convolution, rewrite
from converter.rewrites.branches import Branches
from converter.rewrites.graph import Graph
from converter.rewrites.rule import Context, Replacement
from converter.tracing.context import inlined_functions


def resnext(slicer: Slicer, groups: int = 4, width: int = 8) -> KerasModel:
    """Two residual blocks with written-out groups, and two heads."""
    inputs = keras.Input((16, 16, 3), name="photo")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", name="stem")(inputs)))
    for block in range(2):
        parts = [
            layers.Conv2D(width // groups, 3, padding="same", use_bias=False, name=f"block{block}_group{c}")(part)
            for c, part in enumerate(slicer(x, groups, width // groups))
        ]
        y = layers.Concatenate(name=f"block{block}_join")(parts)
        x = layers.ReLU(name=f"block{block}_out")(layers.Add()([x, layers.BatchNormalization()(y)]))
    pooled = layers.GlobalAveragePooling2D()(x)
    outputs = {
        "second": layers.Dense(2, name="second")(pooled),
        "first": layers.Dense(3, activation="softmax", name="first")(pooled),
    }
    return randomize(keras.Model(inputs, outputs, name="resnext"))


def test_several_outputs_keep_names_order_and_structure() -> None:
    model = resnext(bound_lambda)
    result = rewrite(model, inputs=sample(model))
    assert [layer for _, layer in applied(result.results)] == ["block0_group", "block1_group"]
    new = result.model
    assert new.output_names == model.output_names
    assert list(new.output) == list(model.output) == ["second", "first"]
    assert gap(new, model, sample(model)) <= 1e-6
    assert list(new.predict(sample(model), verbose=0)) == list(model.predict(sample(model), verbose=0))


@pytest.mark.parametrize("structure", ["list", "tuple", "nested"])
def test_output_structures(structure: str) -> None:
    model = grouped_model(getitem)
    x = model.get_layer("joined").output
    ends = [layers.ReLU(name="a")(x), layers.ReLU(name="b")(x)]
    outputs = {"list": ends, "tuple": tuple(ends), "nested": {"x": {"y": ends[0]}, "z": ends[1]}}[structure]
    model = keras.Model(model.input, outputs)
    new = rewrite(model).model
    assert new is not model
    keras.tree.assert_same_structure(new.output, model.output)
    assert new.output_names == model.output_names == ["a", "b"]


def test_a_join_that_is_an_output_keeps_its_name() -> None:
    model = grouped_model(getitem)
    model = keras.Model(model.input, model.get_layer("joined").output)
    new = rewrite(model).model
    assert new.output_names == model.output_names == ["joined"]
    assert new.layers[-1].groups == 4


def test_several_inputs() -> None:
    one, two = keras.Input((9, 9, 8), name="one"), keras.Input((5,), name="two")
    tiny = grouped_model()
    pooled = layers.GlobalAveragePooling2D()(concatenate_layer([layers.Conv2D(2, 3)(p) for p in getitem(one, 4, 2)]))
    model = keras.Model({"one": one, "two": two}, layers.Concatenate()([pooled, layers.Dense(2)(two)]))
    values = {"one": sample(tiny), "two": np.ones((2, 5), "float32")}
    result = rewrite(model, inputs=values)
    assert len(applied(result.results)) == 1
    assert sorted(result.model.input) == ["one", "two"]
    np.testing.assert_allclose(result.model.predict(values, verbose=0), model.predict(values, verbose=0), rtol=1e-4)


def test_nothing_to_do_returns_the_same_object() -> None:
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 3)(inputs))
    result = rewrite(model)
    assert result.model is model
    assert result.results == ()


def test_rewriting_twice_changes_nothing_more() -> None:
    new = rewrite(grouped_model()).model
    assert rewrite(new).model is new


def test_nested_model_called_twice() -> None:
    tiny = grouped_model(padding="same")
    one, two = keras.Input((9, 9, 8)), keras.Input((9, 9, 8))
    model = keras.Model([one, two], layers.Add(name="sum")([tiny(one), tiny(two)]))
    result = rewrite(model)
    assert applied(result.results) == [("grouped-convolution", "tiny/block_conv")]
    inner = result.model.get_layer("tiny")
    assert [layer.name for layer in inner.layers] == ["image", "before", "block_conv", "after"]
    values = [sample(tiny, seed=2), sample(tiny, seed=3)]
    with inlined_functions():
        new, old = np.asarray(result.model(values)), np.asarray(model(values))
    assert equivalence.distance([new], [old]) <= 1e-6


def test_nested_in_a_sequential() -> None:
    model = keras.Sequential([keras.Input((9, 9, 8)), layers.ReLU(), grouped_model(), layers.Flatten()], name="outer")
    result = rewrite(model)
    assert applied(result.results) == [("grouped-convolution", "tiny/block_conv")]
    assert result.model.name == "outer"
    assert gap(result.model, model, sample(model)) <= 1e-6


def test_sequential_without_groups_is_returned() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)])
    assert rewrite(model).model is model


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="own")
        self.convolution = layers.Conv2D(2, 3)

    def call(self, x: Tensor) -> Tensor:
        return self.convolution(x)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Subclassed, "Subclassed is a subclassed model"),
        (lambda: keras.Sequential([layers.Conv2D(2, 3)], name="own"), "never built"),
    ],
)
def test_models_that_cannot_be_read(build: Callable[[], KerasModel], reason: str) -> None:
    model = build()
    result = rewrite(model)
    assert result.model is model
    assert [(item.layer, item.applied) for item in result.results] == [("own", False)]
    assert reason in result.results[0].reason


def test_subclassed_model_inside_is_named() -> None:
    inputs = keras.Input((9, 9, 8))
    model = keras.Model(inputs, Subclassed()(grouped_model(padding="same")(inputs)))
    result = rewrite(model)
    assert applied(result.results) == [("grouped-convolution", "tiny/block_conv")]
    assert [item.layer for item in result.results if not item.applied] == ["own"]


@pytest.mark.parametrize("slicer", [bound_lambda, late_lambda])
def test_saved_loaded_in_safe_mode_and_trained(slicer: Slicer, tmp_path: Path) -> None:
    model = resnext(slicer)
    new = rewrite(model).model
    new.save(tmp_path / "r.keras")
    loaded = keras.models.load_model(tmp_path / "r.keras", safe_mode=True)
    assert "Lambda" not in kinds(loaded)
    assert loaded.count_params() == model.count_params()
    x = sample(model)
    assert equivalence.distance(numbers(loaded, x), numbers(model, x)) <= 1e-6
    kernel = loaded.get_layer("block0_group").kernel
    before = kernel.numpy()
    loaded.compile(optimizer="sgd", loss="mse")
    loaded.fit(x, {"first": np.ones((2, 3)), "second": np.ones((2, 2))}, epochs=1, verbose=0)
    assert np.abs(kernel.numpy() - before).max() > 0


@pytest.mark.parametrize(
    ("slicer", "rule"), [(closed_lambda, "grouped-convolution"), (late_lambda, "late-binding-groups")]
)
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_model_from_a_file(slicer: Slicer, rule: str, suffix: str, tmp_path: Path) -> None:
    model = grouped_model(slicer)
    model.save(tmp_path / f"m.{suffix}")
    loaded = keras.models.load_model(tmp_path / f"m.{suffix}", safe_mode=False, compile=False)
    result = rewrite(loaded)
    assert applied(result.results) == [(rule, "block_conv")]
    assert gap(result.model, model, sample(model)) <= 1e-6


def lying() -> Rule[Site]:
    """The grouped convolution with the kernels of its groups in the wrong order."""

    def replace(graph: Graph, site: Branches, context: Context) -> Replacement:
        replacement = grouped_convolution.replace(graph, site, context)
        layer = replacement.layers[0]
        kernel = layer.kernel.numpy()
        layer.kernel.assign(kernel[..., ::-1])
        return replacement

    return dataclasses.replace(grouped_convolution.RULE, name="lying", replace=replace)


def test_a_rule_that_lies_is_undone_and_reported() -> None:
    model = grouped_model()
    result = rewrite(model, rules=(lying(),))
    assert result.model is model
    (item,) = result.results
    assert (item.rule, item.layer, item.applied) == ("lying", "joined", False)
    assert item.reason.startswith("undone: difference ")
    assert " exceeds " in item.reason


def test_an_undone_rule_leaves_the_place_to_the_next() -> None:
    result = rewrite(grouped_model(), rules=(lying(), *REWRITES))
    assert applied(result.results) == [("grouped-convolution", "block_conv")]
    assert len(reasons(result.results)) == 1


@pytest.mark.parametrize("factor", [1.0 + 1e-4, 1.0 - 1e-4])
def test_a_small_error_in_one_kernel_is_found(factor: float) -> None:
    def replace(graph: Graph, site: Branches, context: Context) -> Replacement:
        replacement = grouped_convolution.replace(graph, site, context)
        kernel = replacement.layers[0].kernel
        kernel.assign(kernel.numpy() * np.where(np.arange(12) == 5, factor, 1.0))
        return replacement

    rule = dataclasses.replace(grouped_convolution.RULE, replace=replace)
    (reason,) = reasons(rewrite(grouped_model(), rules=(rule,)).results)
    assert "exceeds" in reason


def test_zeros_prove_nothing() -> None:
    model = grouped_model(use_bias=False)
    for c in range(4):
        kernel = model.get_layer(f"block_conv_{c}").kernel
        kernel.assign(np.zeros(kernel.shape))
    (reason,) = reasons(rewrite(model).results)
    assert "nothing but zeros" in reason


def test_nan_weights_are_not_proven() -> None:
    model = grouped_model()
    kernel = model.get_layer("block_conv_1").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    (reason,) = reasons(rewrite(model).results)
    assert "difference nan exceeds" in reason


def test_the_whole_model_is_compared_where_inputs_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    model = grouped_model()
    assert rewrite(model, rules=(lying(),), inputs=sample(model)).model is model
    monkeypatch.setattr(engine, "prove", lambda graph, replacement, seed: equivalence.Proof(0.0, 0.0))
    assert rewrite(model, rules=(lying(),)).changed
    result = rewrite(model, rules=(lying(),), inputs=sample(model))
    assert result.model is model
    assert "over the whole model the difference" in reasons(result.results)[0]


def test_eager_mode_is_restored() -> None:
    import tensorflow as tf

    rewrite(grouped_model())
    assert not tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        rewrite(grouped_model())
        assert tf.config.functions_run_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)


def test_tolerance_follows_the_noise() -> None:
    assert equivalence.Proof(0.0, 1e-9).tolerance == equivalence.SINGLE.floor
    assert equivalence.Proof(0.0, 1e-5).tolerance == pytest.approx(8e-5)
    assert equivalence.Proof(0.0, None).tolerance == equivalence.SINGLE.cap
    assert not equivalence.Proof(float("nan"), 1e-5).passed


def test_distance() -> None:
    one = np.array([3.0, 4.0])
    assert equivalence.distance([one], [one]) == 0
    assert equivalence.distance([one * 2], [one]) == pytest.approx(1.0)
    assert equivalence.distance([one, one], [one, one * 2]) == pytest.approx(0.5)
    assert equivalence.distance([one], [np.zeros(2)]) == np.inf
    assert np.isnan(equivalence.distance([np.array([np.nan, 1.0])], [one]))
