"""Configurations drawn by hypothesis: what the inspection accepts holds known names only; what is known is accepted."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.core.errors import CnnExportError, InputError, UnsafeError
from converter.sources.inspection.operations import OPERATIONS
from converter.sources.inspection.safety import MAX_DEPTH, MAX_LAYERS, check_config
from converter.sources.inspection.vocabulary import ACTIVATIONS, DATA, LAYERS, MODULES, NUMBERS, RUNS_CODE

COUNT = os.environ.get("CNNEXPORT_TEST_EXAMPLES", "")
"""How many random examples of each kind; by default the same 150 in every run"""
EXAMPLES = settings(
    max_examples=int(COUNT or 150),
    derandomize=not COUNT,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**40), 2**40) | st.floats(width=32) | st.booleans() | st.none()
plain = st.recursive(numbers | names, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def named(module: str, name: str, config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def parts(module: str) -> st.SearchStrategy[dict[str, Any]]:
    """An object of `module` with plain arguments."""
    arguments = st.dictionaries(st.sampled_from(("value", "seed", "stddev", "l2")), plain, max_size=2)
    return st.builds(named, st.just(module), st.sampled_from(sorted(MODULES[module])), arguments)


arrays = st.builds(
    lambda dtype, values: {"class_name": "__numpy__", "config": {"value": values, "dtype": dtype}},
    st.sampled_from(sorted(NUMBERS)),
    st.lists(st.floats(width=32), max_size=3),
)
functions = st.builds(
    lambda name: {"module": "builtins", "class_name": "function", "config": name, "registered_name": name},
    st.sampled_from(sorted(ACTIVATIONS)),
)
arguments = plain | arrays | functions | parts("keras.initializers") | parts("keras.regularizers")
keys = st.sampled_from(("units", "filters", "activation", "kernel_initializer", "bias_regularizer", "padding"))


@st.composite
def layers(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A layer of Keras, or an operation, with arguments, and with `inner` inside of it where that is given."""
    config = {"name": draw(names), **draw(st.dictionaries(keys, arguments, max_size=4))}
    if inner is not None:
        config[draw(st.sampled_from(("layer", "cell", "layers")))] = draw(inner)
    if draw(st.booleans()):
        return named("keras.layers", draw(st.sampled_from(sorted(LAYERS))), config)
    module = draw(st.sampled_from(sorted(OPERATIONS)))
    return named(module, draw(st.sampled_from(sorted(OPERATIONS[module]))), config)


def stacked(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda found, name: named("keras", "Sequential", {"name": name, "layers": found}),
        st.lists(inner, min_size=1, max_size=4),
        names,
    ) | layers(inner)


models = st.recursive(layers(), stacked, max_leaves=8)

HOSTILE = [
    named(
        "keras.layers", "Lambda", {"name": "x", "function": {"class_name": "__lambda__", "config": {"code": "4wA="}}}
    ),
    *(named("keras.layers", name, {"name": "x"}) for name in sorted(RUNS_CODE)),
    named("os", "system", {"command": "true"}),
    named("keras.utils", "get_file", {"origin": "file:///etc/passwd"}),
    named("keras.config", "enable_unsafe_deserialization", {}),
    named("keras.src.ops.numpy", "os", {}),
    named("keras.src.saving.serialization_lib", "SafeModeScope", {}),
    named("keras.layers", "StringLookup", {"name": "x", "vocabulary": "/etc/passwd"}),
    {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"},
    {"class_name": "function", "config": "eval", "module": "builtins", "registered_name": "eval"},
    {"class_name": "__numpy__", "config": {"value": [1], "dtype": "S2000000000"}},
    {"class_name": "__typespec__", "config": [], "module": "tensorflow", "registered_name": "TensorSpec"},
]


def objects(value: Any, depth: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Every object of a configuration with its depth: a walk of its own, not that of the inspection."""
    if isinstance(value, list):
        for each in value:
            yield from objects(each, depth + 1)
    elif isinstance(value, dict):
        yield value, depth
        for each in value.values():
            yield from objects(each, depth + 1)


def known(value: dict[str, Any]) -> bool:
    """Whether an object with a class is one of the vocabulary."""
    name, module = value["class_name"], value.get("module")
    if name in DATA:
        dtype = value["config"].get("dtype", "float32") if isinstance(value.get("config"), dict) else "float32"
        return name not in ("__numpy__", "__tensor__") or dtype in NUMBERS
    if name == "function":
        return value.get("config") in ACTIVATIONS and module in ("builtins", "keras.activations")
    return name in MODULES.get(module, ()) or name in OPERATIONS.get(module, ())


@given(models)
@EXAMPLES
def test_what_is_known_is_accepted(model: dict[str, Any]) -> None:
    check_config(model)


@given(models, st.sampled_from(HOSTILE), st.randoms(use_true_random=False))
@EXAMPLES
def test_one_hostile_object_anywhere_is_refused(model: dict[str, Any], hostile: dict[str, Any], random: Any) -> None:
    changed = copy.deepcopy(model)
    holder = random.choice([each for each, _ in objects(changed)])
    holder[random.choice(["inner", *map(str, holder)])] = [copy.deepcopy(hostile)]
    with pytest.raises((UnsafeError, InputError)):
        check_config(changed)


values = st.recursive(
    plain | models | st.sampled_from(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("class_name", "module", "config", "layers", "vocabulary", "x")), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(("class_name", "module", "config", "registered_name", "layers")), values))
@EXAMPLES
def test_what_is_accepted_is_known_and_within_the_limits(config: dict[str, Any]) -> None:
    """Whatever is drawn: refused with a message of at most three lines, or made of the vocabulary."""
    try:
        check_config(config)
    except CnnExportError as error:
        assert len(str(error).splitlines()) <= 3  # noqa: PT017  what is refused is right, too
        assert str(error).replace("\n", "").isprintable()  # noqa: PT017
        return
    for each, depth in objects(config):
        assert depth <= MAX_DEPTH
        assert not isinstance(each.get("vocabulary"), str)
        assert "class_name" not in each or known(each)
        assert not isinstance(each.get("layers"), list) or len(each["layers"]) <= MAX_LAYERS


def test_a_registered_name_that_is_no_text_is_no_name() -> None:
    """Found by the tests above."""
    function = {"class_name": "function", "config": "relu", "module": "os", "registered_name": ["relu"]}
    with pytest.raises(UnsafeError, match="calls the function 'relu' of os"):
        check_config({"config": function})


def test_depth_and_layers_are_bounded() -> None:
    deep: Any = "x"
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(InputError, match="nested deeper"):
        check_config({"config": deep})
    with pytest.raises(UnsafeError, match="declares 20,001 layers"):
        check_config({"config": {"layers": [{}] * (MAX_LAYERS + 1)}})
