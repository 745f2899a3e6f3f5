"""Arguments of single layers that Keras 3 renamed, dropped or refuses, beside the classes that say what they take."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

from converter.core.errors import InputError
from converter.sources.inspection.vocabulary import MODULES

Json = dict[str, Any]

RENAMED = {("LeakyReLU", "alpha"): "negative_slope", ("ReLU", "theta"): "threshold"}
# Say nothing about what a trained model computes, whatever their value.
IRRELEVANT = frozenset(
    {
        "batch_input_shape",
        "dynamic",
        "force_generator",
        "fused",
        "implementation",
        "input_dtype",
        "key_shape",
        "query_shape",
        "rng_type",
        "trainable",
        "value_shape",
        "virtual_batch_size",
    }
)
ENDINGS = ("_initializer", "_regularizer", "_constraint")
# Values at which an argument that Keras 3 lacks changes nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {"groups": (1,), "depth_multiplier": (1,), "layout": ("any",), "weights": (None,)}


def mend_arguments(config: Json, title: str) -> list[str]:
    """Rename and drop arguments in `config`, in place, that the Keras here does not take; what was done.

    `title` is what the user calls the file.

    Only arguments at a value that changes nothing are dropped. Raises InputError for any other, naming the layer.
    """
    notes: Counter[str] = Counter()
    _walk(config, title, notes)
    return [what if count == 1 else f"{what} ({count} places)" for what, count in notes.items()]


def _walk(value: Any, title: str, notes: Counter[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _walk(item, title, notes)
    elif isinstance(value, dict):
        if isinstance(value.get("config"), dict) and value.get("module") in MODULES:
            _object(value["class_name"], value["module"], value["config"], title, notes)
        for item in value.values():
            _walk(item, title, notes)


def _object(name: str, module: str, inner: Json, title: str, notes: Counter[str]) -> None:
    import keras

    found: Any = keras
    for part in (*module.split(".")[1:], name):
        found = getattr(found, part, None)
    if not inspect.isclass(found) or name in ("Functional", "Sequential", "Model"):
        return
    accepted = _accepted(found)
    for key in list(inner):
        if key in accepted:
            continue
        new = RENAMED.get((name, key))
        if new:
            inner[new] = inner.pop(key)
            notes[f"{name}: {key} is now {new}"] += 1
        elif _neutral(key, inner[key]) or module == "keras.initializers":
            del inner[key]
            notes[f"{name}: dropped {key}"] += 1
        else:
            raise InputError(
                f"{title}: layer {inner.get('name', name)}: no {key} in Keras 3's {name} ({str(inner[key])[:50]})\n"
                "rebuild the model in Python and export it as package.module:function with --weights"
            )
    axis = inner.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        inner["axis"] = axis[0]
        notes["BatchNormalization: axis is a number, not a list"] += 1
    if name == "GRU" and "reset_after" not in inner:
        inner["reset_after"] = False  # what Keras 2 took before the argument existed
        notes["GRU: reset_after=False, as before it was an argument"] += 1


def _neutral(key: str, value: Any) -> bool:
    if key in IRRELEVANT or key.endswith(ENDINGS):
        return True
    return value in (None, False) or value in NEUTRAL.get(key, ())


def _accepted(found: type) -> set[str]:
    """Names of the arguments of a class: its own, and its bases' as long as it hands on what it does not know."""
    names: set[str] = set()
    for base in found.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}
