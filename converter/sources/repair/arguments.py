"""Arguments of single layers that Keras 3 renamed, dropped or refuses, compared with the installed Keras classes."""

from __future__ import annotations

import inspect
from collections import Counter

from converter.core.errors import InputError
from converter.core.foreign import Json, JsonObject, KerasObject
from converter.sources.inspection.vocabulary import MODULES
from converter.sources.repair.notes import REBUILD, listed

RENAMED = {("LeakyReLU", "alpha"): "negative_slope", ("ReLU", "theta"): "threshold"}
# With any value these change nothing in what a trained model computes.
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
# Values with which an argument that Keras 3 lacks changes nothing.
NEUTRAL: dict[str, tuple[Json, ...]] = {
    "groups": (1,),
    "depth_multiplier": (1,),
    "layout": ("any",),
    "mode": (0,),  # of BatchNormalization in Keras 1
    "weights": (None,),
}


def repair_arguments(config: JsonObject, title: str) -> tuple[str, ...]:
    """Rename and drop arguments in `config`, in place, that the installed Keras does not accept; returns the notes.

    `title` is the user's name for the file. Only an argument whose value changes nothing is dropped; any other raises
    InputError, which names the layer.
    """
    notes: Counter[str] = Counter()
    _walk(config, title, notes)
    return listed(notes)


def _walk(value: Json, title: str, notes: Counter[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _walk(item, title, notes)
    elif isinstance(value, dict):
        if isinstance(value.get("config"), dict) and value.get("module") in MODULES:
            _object(value["class_name"], value["module"], value["config"], title, notes)
        for item in value.values():
            _walk(item, title, notes)


def _object(name: str, module: str, inner: JsonObject, title: str, notes: Counter[str]) -> None:
    import keras

    found: KerasObject = keras
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
            layer = inner.get("name", name)
            raise InputError(
                f"{title}: layer {layer}: Keras 3's {name} has no argument {key} ({str(inner[key])[:50]})\n{REBUILD}"
            )
    axis = inner.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        inner["axis"] = axis[0]
        notes["BatchNormalization: axis is a number, not a list"] += 1
    if name == "GRU" and "reset_after" not in inner:
        inner["reset_after"] = False  # the behaviour of Keras 2 before the argument existed
        notes["GRU: reset_after=False, as before it was an argument"] += 1


def _neutral(key: str, value: Json) -> bool:
    if key in IRRELEVANT or key.endswith(ENDINGS):
        return True
    return value is None or value is False or value in NEUTRAL.get(key, ())


def _accepted(found: type) -> set[str]:
    """Names of the arguments of a class: its own, and those of its bases as far as it passes unknown ones on."""
    names: set[str] = set()
    for base in found.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}
