"""Branches that all read one slice: the model's function is kept, or that of its source is built; a warning says so."""

from __future__ import annotations

from typing import Literal

import keras
import numpy as np
import pytest
from grouped_models import (
    Slicer,
    applied,
    bound_lambda,
    concatenate_first,
    concatenate_layer,
    gap,
    grouped_model,
    kinds,
    late_lambda,
    reasons,
    sample,
)
from keras import layers

from converter.core.errors import UsageError
from converter.core.foreign import Given, Tensor
from converter.rewrites import equivalence, rewrite
from converter.tracing.context import inlined_functions


def test_preserve_keeps_what_the_model_predicts() -> None:
    model = grouped_model(late_lambda, activation="relu", strides=2, padding="same")
    x = sample(model)
    predicted = model.predict(x, verbose=0)
    result = rewrite(model)
    assert applied(result.results) == [("late-binding-groups", "block_conv")]
    assert kinds(result.model) == ["InputLayer", "ReLU", "GetItem", "Conv2D", "ReLU"]
    assert equivalence.distance([result.model.predict(x, verbose=0)], [predicted]) <= 1e-6
    assert result.model.get_layer("block_conv").groups == 1


def test_preserve_reads_the_last_slice_only() -> None:
    model = grouped_model(late_lambda)
    new = rewrite(model).model
    x = sample(model)
    blind = x.copy()
    blind[..., :6] = 9.0
    assert gap(new, model, blind) <= 1e-6
    with inlined_functions():
        np.testing.assert_array_equal(np.asarray(new(x)), np.asarray(new(blind)))


@pytest.mark.parametrize(
    "settings", [{}, {"spatial": (9,)}, {"spatial": (5, 5, 5)}, {"activation": "tanh", "use_bias": False}]
)
def test_as_written_is_the_model_with_bound_lambdas(settings: Given) -> None:
    model, bound = grouped_model(late_lambda, **settings), grouped_model(bound_lambda, **settings)
    bound.set_weights(model.get_weights())
    x = sample(model)
    result = rewrite(model, groups="as-written", inputs=x)
    assert applied(result.results) == [("late-binding-groups", "block_conv")]
    assert gap(result.model, bound, x) <= 1e-6
    assert gap(result.model, model, x) > 1e-2
    assert result.model.get_layer("block_conv").groups == 4
    assert "changed on purpose" in result.results[0].reason


def test_warning_says_which_layers_what_is_lost_and_how_to_fix_it() -> None:
    def named(x: Tensor, groups: int, width: int) -> list[Tensor]:
        return [
            layers.Lambda(lambda z: z[..., c * width : (c + 1) * width], name=f"slice{c}")(x)  # noqa: B023
            for c in range(groups)
        ]

    (warning,) = rewrite(grouped_model(named)).warnings
    for part in (
        "GROUPS ARE NOT GROUPS",
        "joined",
        "slice0 … slice3",
        "block_conv_0 … block_conv_3",
        "read channels 6-7 of 8",
        "0-5 are never read",
        "75% of the input is ignored",
        "lambda x, c=c: ...",
        "real function is kept",
    ):
        assert part in warning


def test_warning_as_written_says_that_the_function_was_changed() -> None:
    (warning,) = rewrite(grouped_model(late_lambda), groups="as-written").warnings
    assert "CHANGED ON PURPOSE" in warning
    assert "real function is kept" not in warning


def test_no_warning_without_late_binding() -> None:
    assert rewrite(grouped_model(bound_lambda)).warnings == ()


def test_one_warning_for_several_places() -> None:
    inputs = keras.Input((9, 9, 8))
    x = inputs
    for block in range(2):
        parts = [layers.Conv2D(2, 3, name=f"b{block}_g{c}")(part) for c, part in enumerate(_late(x, block))]
        x = layers.Concatenate(name=f"join{block}")(parts)
    result = rewrite(keras.Model(inputs, x))
    assert len(applied(result.results)) == 2
    (warning,) = result.warnings
    assert "in 2 place(s)" in warning
    assert "join0" in warning
    assert "join1" in warning


def _late(x: Tensor, block: int) -> list[Tensor]:
    return [layers.Lambda(lambda z: z[..., 2 * c : 2 * c + 2])(x) for c in range(4)]  # noqa: B023


def test_channels_first() -> None:
    def late_first(x: Tensor, groups: int, width: int) -> list[Tensor]:
        return [layers.Lambda(lambda z: z[:, c * width : (c + 1) * width])(x) for c in range(groups)]  # noqa: B023

    def bound_first(x: Tensor, groups: int, width: int) -> list[Tensor]:
        return [layers.Lambda(lambda z, c=c: z[:, c * width : (c + 1) * width])(x) for c in range(groups)]

    model = grouped_model(late_first, concatenate_first, data_format="channels_first")
    bound = grouped_model(bound_first, concatenate_first, data_format="channels_first")
    bound.set_weights(model.get_weights())
    x = sample(model)
    kept, built = rewrite(model), rewrite(model, groups="as-written")
    assert applied(kept.results) == applied(built.results) == [("late-binding-groups", "block_conv")]
    assert gap(kept.model, model, x) <= 1e-6
    assert gap(built.model, bound, x) <= 1e-6


def test_the_same_slice_of_another_width_is_declined() -> None:
    def first_two(x: Tensor, groups: int, width: int) -> list[Tensor]:
        stop = 2
        return [layers.Lambda(lambda z: z[..., :stop])(x) for _ in range(3)]

    model = grouped_model(first_two, concatenate_layer)
    result = rewrite(model)
    assert result.model is model
    assert reasons(result.results) == ["all 3 branches read channels 0-1 of 8: 3 times 2 is not 8"]


def test_unknown_groups() -> None:
    with pytest.raises(UsageError, match="preserve or as-written"):
        rewrite(grouped_model(), groups="guess")  # type: ignore[arg-type]


def explicit(x: Tensor, groups: int, width: int) -> list[Tensor]:
    """Each branch reads the first channels, and that is what the source says."""
    return [x[..., :width] for _ in range(groups)]


def explicit_lambda(x: Tensor, groups: int, width: int) -> list[Tensor]:
    return [layers.Lambda(lambda z: z[..., :2])(x) for _ in range(groups)]


@pytest.mark.parametrize("slices", [explicit, explicit_lambda])
@pytest.mark.parametrize("groups", ["preserve", "as-written"])
def test_equal_slices_may_be_meant(slices: Slicer, groups: Literal["preserve", "as-written"]) -> None:
    model = grouped_model(slices)
    x = sample(model)
    result = rewrite(model, groups=groups)
    assert applied(result.results) == []
    assert result.warnings == ()
    assert not result.on_purpose
    assert gap(result.model, model, x) == 0


def test_a_loop_of_a_module_is_late_too() -> None:
    """There the variable is a global."""
    lines = [
        "def slices(x):",
        "    global c",
        "    found = []",
        "    for c in range(4):",
        "        found.append(layers.Lambda(lambda z: z[..., c * 2 : c * 2 + 2])(x))",
        "    return found",
    ]
    space: Given = {"layers": layers}
    exec("\n".join(lines), space)
    model = grouped_model(lambda x, groups, width: space["slices"](x))
    assert applied(rewrite(model).results) == [("late-binding-groups", "block_conv")]
