"""What computes in int8, with which scales: shared through pools and joins, fixed ones, layers that stay in float."""

from __future__ import annotations

import numpy as np

from converter.quantize.plan import Kernel, Kind, Operator, plan
from converter.quantize.ranges import SIGMOID

RANGES = {"x": (0.0, 1.0), "a": (-1.0, 2.0), "b": (-3.0, 1.0), "p": (0.0, 2.0), "j": (-3.0, 2.0), "s": (0.0, 1.0)}


def step(kind: Kind, name: str, inputs: str, outputs: str, **more: object) -> Operator:
    return Operator(kind, name, f"{name}_layer", (0,), tuple(inputs), tuple(outputs), **more)  # type: ignore[arg-type]


def convolution(name: str, inputs: str, outputs: str) -> Operator:
    return step("weights", name, inputs, outputs, kernel=Kernel(f"{name}/kernel", np.ones((2, 2), np.float32), 0))


JOIN = (
    convolution("one", "x", "a"),
    convolution("two", "x", "b"),
    step("share", "pool", "a", "p"),
    step("share", "join", "pb", "j"),
)


def test_a_join_and_a_pool_share_one_scale() -> None:
    found = plan(JOIN, RANGES)
    assert found.int8 == {0, 1, 2, 3}
    assert len({found.scales[name] for name in "apbj"}) == 1
    assert found.scales["j"].low <= -3.0 + found.scales["j"].scale
    assert found.scales["x"] != found.scales["j"]


def test_a_layer_that_is_kept_is_float_and_the_reason_is_given() -> None:
    found = plan(JOIN, RANGES, ["two_layer"])
    assert found.int8 == {0, 2, 3}
    assert [(each.layer, each.reason) for each in found.kept] == [("two_layer", "kept in float as requested")]


def test_a_fixed_scale_is_not_forced_on_others() -> None:
    sigmoid = step("free", "gate", "a", "s", fixed=SIGMOID)
    found = plan((*JOIN[:2], sigmoid, step("share", "join", "sb", "j")), RANGES)
    assert found.scales["s"] == SIGMOID
    assert 3 not in found.int8
    assert "fixed scale" in found.kept[0].reason
    alone = plan((JOIN[0], sigmoid, step("share", "flat", "s", "j")), RANGES)
    assert alone.scales["j"] == SIGMOID


def test_what_lies_between_float_operators_stays_float() -> None:
    steps = (step("share", "early", "x", "p"), step("float", "odd", "p", "a", reason="no int8 form"))
    found = plan(steps, RANGES)
    assert not found.int8
    assert [each.reason for each in found.kept] == ["no int8 form"]


def test_a_tensor_that_no_runtime_shows_has_the_range_of_its_neighbour() -> None:
    hidden = {name: span for name, span in RANGES.items() if name not in "ab"}
    steps = (step("share", "patches", "x", "a"), convolution("inner", "a", "b"), step("share", "whole", "b", "j"))
    found = plan(steps, hidden)
    assert found.int8 == {1, 2}
    assert found.scales["b"] == found.scales["j"]
    assert plan(steps[:2], hidden).kept[0].reason == "the values of b were not seen while calibrating"
