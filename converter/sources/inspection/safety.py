"""The check of a model's configuration before Keras reads it: which objects it names, and whether they run code.

Keras's `safe_mode` has let code through before. This check therefore allows names from a list instead of forbidding
some, and examines every object at any depth. Keras's own check runs as well. The lists are in `vocabulary`.
"""

from __future__ import annotations

from collections.abc import Collection

from converter.core.errors import InputError, UnsafeError
from converter.core.foreign import Json, JsonObject
from converter.core.text import clean
from converter.sources.inspection.operations import OPERATIONS
from converter.sources.inspection.vocabulary import ACTIVATIONS, DATA, MODULES, NUMBERS, RUNS_CODE

TRUST = "--trust runs the file's code; use it only for a file from someone you trust"
VOCABULARIES = frozenset({"vocabulary", "idf_weights", "vocabulary_path"})
NAME_LENGTH = 100
MAX_DEPTH = 200
MAX_LAYERS = 20_000  # in one model; rebuilding takes about a millisecond for each


def check_config(config: JsonObject, custom: Collection[str] = (), trust: bool = False) -> None:
    """Raise UnsafeError or InputError, naming the layer, where `config` names more than Keras's own layers.

    `custom` are the names of classes and functions that the user provides. `trust` allows code from the file (Lambda
    and similar layers), but neither paths nor functions of Keras that cannot be part of a model.
    """
    _Check(frozenset(custom), trust).value(config, "the model", 0)


class _Check:
    """One walk over a configuration; `layer` is the innermost named layer around a value."""

    def __init__(self, custom: frozenset[str], trust: bool) -> None:
        self.custom = custom
        self.trust = trust

    def value(self, value: Json, layer: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InputError(
                f"{layer}: its configuration is nested deeper than {MAX_DEPTH} levels\nthe file is damaged"
            )
        if isinstance(value, list):
            for item in value:
                self.value(item, layer, depth + 1)
        elif isinstance(value, dict):
            self.mapping(value, layer, depth)

    def mapping(self, value: JsonObject, layer: str, depth: int) -> None:
        inner = value.get("config")
        if "class_name" in value:
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                layer = f"layer {clean(inner['name'], NAME_LENGTH)}"
            self.object(value, layer)
        layers = value.get("layers")
        if isinstance(layers, list) and len(layers) > MAX_LAYERS:
            raise UnsafeError(f"{layer}: declares {len(layers):,} layers\nrefused; the limit is {MAX_LAYERS:,}")
        for key, item in value.items():
            if key in VOCABULARIES and isinstance(item, str):
                raise UnsafeError(
                    f"{layer}: its {key} is the path {item[:80]!r}, which Keras would read from this machine\n"
                    "save the model with the vocabulary itself"
                )
            self.value(item, layer, depth + 1)

    def object(self, value: JsonObject, layer: str) -> None:
        name, module = value["class_name"], value.get("module")
        registered = value.get("registered_name")
        if not isinstance(name, str) or not isinstance(module, (str, type(None))):
            raise InputError(f"{layer}: class {name!r} of module {module!r} is not a name\nthe file is damaged")
        shown = clean(name, NAME_LENGTH)
        if name in DATA:
            self.data(value, shown, layer)
            return
        if name == "__lambda__" or name in RUNS_CODE:
            if not self.trust:
                how = RUNS_CODE.get(name, RUNS_CODE["Lambda"])
                raise UnsafeError(f"{layer}: {name.strip('_')} {how}\nrefused; {TRUST}")
        elif name == "function":
            self.function(value, layer)
        elif name in self.custom or (isinstance(registered, str) and registered in self.custom):
            return
        elif module is None or not (module == "keras" or module.startswith("keras.")):
            where = f" of {clean(module, NAME_LENGTH)}" if module else ""
            package = (module or "").split(".")[0]
            hint = package if package.isidentifier() and package != "builtins" else "package.module"
            raise InputError(
                f"{layer}: the class {shown}{where} does not belong to Keras\n"
                f"name the module that defines it with --custom-objects {hint}"
            )
        elif module == "keras.layers" and name[:1].isupper() and name not in MODULES[module]:
            raise InputError(
                f"{layer}: the installed Keras has no layer {shown}\n"
                "save the model again with the installed Keras, or name the module with its code with --custom-objects"
            )
        elif name not in MODULES.get(module, ()) and name not in OPERATIONS.get(module, ()):
            raise UnsafeError(
                f"{layer}: {clean(module, NAME_LENGTH)}.{shown} is neither a layer nor a part of one\n"
                "refused; Keras never writes this, so the file may be malicious"
            )

    def data(self, value: JsonObject, shown: str, layer: str) -> None:
        """Arrays and tensors have numbers as elements: the type of text says how much memory each element takes."""
        inner = value.get("config")
        dtype = inner.get("dtype", "float32") if isinstance(inner, dict) else "float32"
        if shown in ("__numpy__", "__tensor__") and (not isinstance(dtype, str) or dtype not in NUMBERS):
            raise UnsafeError(
                f"{layer}: has an array of the type {clean(str(dtype), NAME_LENGTH)}\n"
                "refused; a model holds numbers, and such a type can ask for any amount of memory"
            )

    def function(self, value: JsonObject, layer: str) -> None:
        name, module, registered = value.get("config"), value.get("module"), value.get("registered_name")
        if isinstance(name, str) and not self.custom.isdisjoint(
            each for each in (name, registered) if isinstance(each, str)
        ):
            return
        if isinstance(name, str) and name in ACTIVATIONS and module in ("builtins", "keras.activations"):
            return
        raise UnsafeError(
            f"{layer}: calls the function {name!r} of {clean(str(module), NAME_LENGTH)}\n"
            "refused; if it is your own, name its module with --custom-objects package.module"
        )
