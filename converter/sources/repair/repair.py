"""A model's configuration as Keras 1, 2 or 3 wrote it, converted to what Keras 3 reads: from JSON to JSON.

Keras 3 reads hardly any file of Keras 1 or 2. The differences: how objects are written (without a module, or with one
that no longer exists), Sequential models that are a plain list, input shapes given with the first layer, graph nodes
that are lists instead of calls, call indices of nested models that count from one, raw TensorFlow operations as layers,
and names with a slash. Arguments of single layers are repaired later, when Keras can be imported
(`converter.sources.repair.arguments`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from converter.core.errors import InputError
from converter.core.foreign import Json, JsonObject
from converter.sources.inspection.operations import OPERATIONS
from converter.sources.inspection.vocabulary import DATA, MODELS, MODULES, module_of
from converter.sources.repair.graph import call, free_name, nodes_of, shifted, unwrapped, without_slashes
from converter.sources.repair.keras1 import repair_keras1
from converter.sources.repair.notes import listed
from converter.sources.repair.operations import is_operation, repair_operation

ALIASES = {
    "Model": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "Policy": "DTypePolicy",
    "ThresholdedReLU": "ReLU",
    "L1L2Regularizer": "L1L2",
}


@dataclass(frozen=True)
class Repaired:
    """A configuration for Keras 3, one note for each kind of repair, and old names of top-level layers by new names."""

    config: JsonObject
    notes: tuple[str, ...]
    renamed: dict[str, str]


def repair(config: JsonObject, old: bool) -> Repaired:
    """`config` for Keras 3; `old` says that Keras 1 or 2 wrote it.

    Raises InputError where the configuration does not describe a model, or has something that Keras 3 cannot compute;
    the message then names the layer.
    """
    repairer = _Repairer(old)
    repaired = repairer.object(config)
    if not isinstance(repaired, dict) or "class_name" not in repaired or not isinstance(repaired.get("config"), dict):
        raise InputError("its configuration does not describe a model\nthe file is damaged; save it again")
    return Repaired(repaired, listed(repairer.notes), repairer.renamed)


class _Repairer:
    """One pass over a configuration; `notes` count each kind of repair."""

    def __init__(self, old: bool) -> None:
        self.old = old
        self.notes: Counter[str] = Counter()
        self.renamed: dict[str, str] = {}

    def value(self, value: Json) -> Json:
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return self.object(value) if "class_name" in value else {k: self.value(v) for k, v in value.items()}
        return value

    def object(self, given: JsonObject) -> JsonObject:
        """A layer, model, initializer, … with everything inside it."""
        name = given.get("class_name")
        if not isinstance(name, str):
            raise InputError(f"its configuration names a class {name!r}\nthe file is damaged; save it again")
        if name == "__lambda__":
            return self.code(given)
        if name in DATA or name in ("function", "__typespec__"):
            return {key: self.value(item) for key, item in given.items()}
        result = self.spelled(given)
        inner = result.get("config")
        if result["class_name"] == "Sequential":
            result["config"] = self.sequential(inner, given)
        elif result["class_name"] == "Functional" and isinstance(inner, dict) and "layers" in inner:
            result["config"] = self.functional(inner)
        else:
            if isinstance(inner, dict):
                result["config"] = self.layer(result["class_name"], inner)
                result = repair_keras1(result, self.notes)
            if isinstance(result.get("config"), (dict, list)):
                result["config"] = self.value(result["config"])
        return result

    def spelled(self, given: JsonObject) -> JsonObject:
        """The object with module, class and registered name as Keras 3 writes them, without its compile settings."""
        # The build settings of old layers are dropped too: the call of the layer says the same.
        dropped = {"compile_config", "build_config", "shared_object_id"} if self.old else {"compile_config"}
        result = {key: item for key, item in given.items() if key not in dropped}
        name, module = given["class_name"], given.get("module")
        package, _, short = name.rpartition(">")
        if package and "module" not in given and module_of(short) is None:
            result |= {"class_name": short, "module": None, "registered_name": name}
            return result
        if isinstance(module, str) and (name in MODULES.get(module, ()) or name in OPERATIONS.get(module, ())):
            return result
        name = ALIASES.get(short, short) if package in ("", "Custom", "Addons") else name
        home = module_of(name)
        foreign = isinstance(module, str) and not _is_keras(module)
        if home is None or foreign:
            if "module" not in given:
                result |= {"module": None, "registered_name": given["class_name"]}
            return result
        if name != given["class_name"]:
            self.notes[f"class {given['class_name']} is now {name}"] += 1
        if module is not None:
            self.notes[f"module {module} is now {home}"] += 1
        result |= {
            "class_name": name,
            "module": home,
            "registered_name": "Functional" if name == "Functional" else None,
        }
        return result

    def sequential(self, given: Json, around: JsonObject) -> JsonObject:
        """The configuration `given` of a Sequential model; `around` is the object that it belongs to."""
        if isinstance(given, list):
            self.notes["the layers of a Sequential model were a plain list"] += 1
            given = {"name": "sequential", "layers": given}
        if not isinstance(given, dict) or not isinstance(given.get("layers"), list):
            raise InputError("a Sequential model has no list of layers\nthe file is damaged; save it again")
        inner: JsonObject = dict(given)
        layers = [layer for layer in inner["layers"] if isinstance(layer, dict)]
        first = layers[0].get("config") if layers else None
        shape = first.get("batch_input_shape") if isinstance(first, dict) else None
        if (
            shape is None
            and isinstance(first, dict)
            and layers[0].get("class_name") == "Dense"
            and "input_dim" in first
        ):
            shape = [None, first["input_dim"]] if first["input_dim"] else None
        build = (around.get("build_config") or {}).get("input_shape")
        if shape is not None and layers[0].get("class_name") != "InputLayer":
            self.notes["the input shape of a Sequential model was an argument of its first layer"] += 1
            dtype = first.get("dtype") if isinstance(first, dict) else None
            layers.insert(0, _input_layer(shape, dtype, free_name("input", _names(layers))))
        elif shape is None and build and "build_input_shape" not in inner:
            inner["build_input_shape"] = build
        inner["layers"] = [self.object(layer) for layer in layers]
        self.rename(_sequential_names(inner["layers"]))
        return inner

    def functional(self, inner: JsonObject) -> JsonObject:
        """The configuration `inner` of a functional model: its layers, their calls, its inputs and outputs."""
        layers = inner["layers"]
        if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
            raise InputError("a model has no list of layers\nthe file is damaged; save it again")
        legacy = any(isinstance(node, list) for layer in layers for node in nodes_of(layer))
        result = dict(inner)
        result["layers"] = repaired = [self.object(layer) for layer in layers]
        nested = {str(layer.get("name")): layer["class_name"] for layer in repaired if layer["class_name"] in MODELS}
        if legacy:
            self.notes["the calls of the layers were lists, not arguments by name"] += 1
            shifts = dict.fromkeys(nested, 1)
            for layer in repaired:
                layer["inbound_nodes"] = [call(node, shifts) for node in nodes_of(layer)]
            for key in ("input_layers", "output_layers"):
                sequential = {name: 1 for name, kind in nested.items() if kind == "Sequential"}
                result[key] = shifted(unwrapped(result.get(key)), sequential)
        for index, layer in enumerate(repaired):
            if is_operation(layer):
                repaired[index] = repair_operation(layer, self.notes)
        self.rename(without_slashes(result))
        return result

    def layer(self, class_name: str, inner: JsonObject) -> JsonObject:
        """The arguments `inner` of an old layer, with those repaired that many classes share."""
        result = dict(inner)
        shape = result.pop("batch_input_shape", None)
        if class_name == "InputLayer":
            if shape is not None:
                self.notes["batch_input_shape is now batch_shape"] += 1
                result["batch_shape"] = shape
            for flag in ("sparse", "ragged"):
                if flag in result and not result[flag] and shape is not None:
                    del result[flag]
        if class_name == "Lambda":
            result = self.function_layer(result)
        return result

    def code(self, given: JsonObject) -> JsonObject:
        """Code with default arguments: Keras 3.15 keeps them as the list of the JSON, but Python requires a tuple.

        Written as one list, the code goes through Keras's reader of older files, which makes the tuple.
        """
        inner = given.get("config")
        if not isinstance(inner, dict) or not isinstance(inner.get("defaults"), list):
            return given
        self.notes["the default arguments of a Lambda's function were a list"] += 1
        dump = [inner.get("code"), inner["defaults"], inner.get("closure")]
        return given | {"config": {"code": dump, "defaults": None, "closure": None}}

    def rename(self, renamed: dict[str, str]) -> None:
        """Record layers that were renamed, old names by new names: those of the outermost model, which comes last.

        The weights of a nested model are stored under the nested model's name.
        """
        if renamed:
            self.notes["slashes in layers' names are now underscores"] += len(renamed)
        self.renamed = renamed

    def function_layer(self, inner: JsonObject) -> JsonObject:
        """The arguments of a Lambda of Keras 2: its function is a list (code, defaults, closure), next to its kind."""
        if "function_type" not in inner:
            return inner
        self.notes["the function of a Lambda was a list of code, defaults and closure"] += 1
        result = {key: value for key, value in inner.items() if not key.endswith(("_type", "module"))}
        for key in ("function", "output_shape"):
            kind, value = inner.get(f"{key}_type"), inner.get(key)
            if kind == "lambda" and isinstance(value, list) and len(value) == 3:
                code, defaults, closure = value
                spelled = {"code": code, "defaults": defaults, "closure": closure}
                result[key] = {"class_name": "__lambda__", "config": spelled}
            elif kind == "function":
                module = inner.get("module" if key == "function" else "output_shape_module")
                result[key] = {"class_name": "function", "config": value, "module": module, "registered_name": value}
        return result


def _sequential_names(layers: list[JsonObject]) -> dict[str, str]:
    """Rename, in place, the layers of a Sequential model that have a slash in their name; returns old by new names."""
    renamed, taken = {}, _names(layers)
    for layer in layers:
        inner = layer.get("config")
        if isinstance(inner, dict) and "/" in str(inner.get("name", "")):
            old = str(inner["name"])
            inner["name"] = free_name(old.replace("/", "_"), taken)
            taken.add(inner["name"])
            renamed[inner["name"]] = old
    return renamed


def _is_keras(module: str) -> bool:
    """Whether a module belongs, or belonged, to Keras: `keras.engine`, `tf_keras.src.…`, `tensorflow.python.keras`."""
    parts = module.split(".")
    return parts[0] in ("keras", "tf_keras") or (parts[0] == "tensorflow" and "keras" in parts) or module == "builtins"


def _names(layers: list[JsonObject]) -> set[Json]:
    """The names of the layers of a Sequential model."""
    return {inner.get("name") for layer in layers if isinstance(inner := layer.get("config"), dict)}


def _input_layer(shape: Json, dtype: Json, name: str) -> JsonObject:
    inner = {"batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else "float32", "name": name}
    return {"class_name": "InputLayer", "module": "keras.layers", "config": inner, "registered_name": None}
