"""A model file: inspected in a separate process, repaired, rebuilt from its configuration, given its weights."""

from __future__ import annotations

import difflib
import math
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from converter.core.data import Source, SourceOptions
from converter.core.errors import InputError, UnsafeError
from converter.core.files import sha256_of
from converter.core.foreign import Facts, JsonObject, KerasModel, KerasOperation, KerasVariable
from converter.core.text import one_line
from converter.data.about import read_beside
from converter.sources.finish import finish, require_built
from converter.sources.functions import CustomObjects, call_builder, custom_objects
from converter.sources.inspection.inspect import inspect_file
from converter.sources.inspection.protocol import Request
from converter.sources.names import major, refuse_directory, title_of, without_folder
from converter.sources.repair.arguments import repair_arguments
from converter.sources.weights import assign_stored
from converter.tracing.context import quick_keras, quiet_tensorflow

MAX_ELEMENTS = 1 << 29  # of one layer's output for one sample: 2 GiB in float32
SLACK = 64 << 20  # bytes that a model may hold beyond what its file stores: random seeds, constants


def load_file(text: str, options: SourceOptions) -> Source:
    """The model in the file `text`: `.keras`, HDF5 of Keras 1, 2 or 3, or only weights, with `options.builder`.

    The content of the file decides which of these it is. Nothing in it is executed unless `options.trust` is set.
    Raises InputError where it is missing, damaged or not a model, UnsafeError where it would run code or declares
    implausible sizes, ChildError where inspecting it failed.
    """
    path = Path(text)
    try:
        _require_file(path, text)
    except OSError as error:  # a name that is too long, a directory that may not be read
        raise InputError(f"{text}: {error.strerror or error}\ncheck the path") from error
    if options.custom_objects:
        quiet_tensorflow()
    custom = custom_objects(options.custom_objects)
    with ThreadPoolExecutor(1) as hasher, tempfile.TemporaryDirectory(prefix="cnnexport-") as directory:
        digest = hasher.submit(sha256_of, path)
        names = tuple(sorted({*custom, *_registered()}))
        request = Request(path, Path(directory), names, options.trust, weights_only=bool(options.builder))
        found = inspect_file(request, text)
        if custom or options.builder or options.trust:
            quiet_tensorflow()
        else:
            quick_keras()
        repairs: tuple[str, ...] = ()
        if found.config is None or options.builder:
            model = _built_elsewhere(text, options)
            require_built(model, text, options.input_shape)
        else:
            if found.assets:
                raise InputError(f"{text}: a layer keeps a vocabulary in assets/\nsave the model without that layer")
            repairs = found.repairs
            if major(found.version) < 3:
                repairs += repair_arguments(found.config, text)
            model = rebuild(found.config, found.weight_bytes, custom, options, text)
        assign_stored(model, found.weights, text, found.renamed)
    detail: Facts = {"file": path.name, "sha256": digest.result(), "bytes": path.stat().st_size}
    detail |= {"format": found.format, "keras_version": found.version}
    if options.builder:
        detail["builder"] = without_folder(options.builder)
    if options.custom_objects:
        detail["custom_objects"] = list(options.custom_objects)
    if options.trust:
        detail["trusted"] = True
    source = finish(model, title_of(text), "file", detail, input_shape=options.input_shape, repairs=repairs)
    about = read_beside(path, detail["sha256"])
    if about is None:
        return source
    detail = {**source.detail, "training": about.training}
    facts = {**source.preprocessing, **about.preprocessing}
    return replace(source, detail=detail, preprocessing=facts, labels=about.labels)


def rebuild(config: JsonObject, stored: int, custom: CustomObjects, options: SourceOptions, title: str) -> KerasModel:
    """The model that `config` describes, its weights not loaded yet; `stored` are the bytes of weights in the file.

    Variables are only declared at first, and get memory if their sizes fit `stored`: a configuration cannot allocate
    more memory than its file has weights. With `trust` it is built at once. Raises UnsafeError for a
    configuration with much larger weights or activations, InputError where Keras cannot rebuild the model.
    """
    try:
        if options.trust:
            _names_for_lambdas()
            return _built_at_once(config, custom, options, title)
        try:
            return _declared(config, stored, custom, options, title)
        except UnsafeError:
            raise
        except Exception:  # the user's own code may need the values of its variables while it is built
            if not custom:
                raise
            model = _built_at_once(config, custom, options, title)
            _check_activations(model, title)
            return model
    except (
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        IndexError,
        ImportError,
        RuntimeError,
        EOFError,
        NameError,
    ) as error:
        raise InputError(
            f"{title}: Keras cannot rebuild the model: {_reason(error)}\n"
            "rebuild it in Python and give the function with --builder module:function; this file's weights are used"
        ) from error


def _reason(error: Exception) -> str:
    """Keras's message about the innermost object that it could not make, with the layer's name where there is one.

    Keras wraps each error as "... config={...} ... Exception encountered: " and the inner error.
    """
    around, _, reason = str(error).rpartition("Exception encountered:")
    name = re.search(r"'name': '([^']+)'", around.rpartition("config={")[2])
    return f"{f'layer {name[1][:100]}: ' if name else ''}{type(error).__name__}: {one_line(reason)}"


def _deserialize(config: JsonObject, custom: CustomObjects, *, safe: bool) -> KerasModel:
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with ObjectSharingScope():  # a layer that occurs twice in the file is one layer
        model = keras.saving.deserialize_keras_object(dict(config), custom_objects=dict(custom), safe_mode=safe)
    if not isinstance(model, keras.Model):
        raise TypeError(f"its configuration describes a {type(model).__name__}, not a model")
    return model


def _names_for_lambdas() -> None:
    """Define the names that trusted code could use without importing them when Keras 2 loaded it: tf, K, np, keras.

    Keras runs that code in the namespace of its own module, at every call of the model, so the names stay defined.
    """
    import keras
    import numpy as np
    import tensorflow as tf
    from keras.src.utils import python_utils

    names = {"tf": tf, "tensorflow": tf, "np": np, "numpy": np, "keras": keras, "K": keras.backend, "ops": keras.ops}
    for name, value in names.items():
        vars(python_utils).setdefault(name, value)


@contextmanager
def _declared_only() -> Iterator[None]:
    """On an error, drop the declared variables: Keras would otherwise allocate them later."""
    from keras.src.backend.common import global_state

    try:
        yield
    except BaseException:
        global_state.set_global_attribute("uninitialized_variables", [])
        raise


def _declared(config: JsonObject, stored: int, custom: CustomObjects, options: SourceOptions, title: str) -> KerasModel:
    """The model; its variables are declared first, and get memory when their sizes and all outputs were checked."""
    import keras

    with _declared_only(), keras.StatelessScope(initialize_variables=False):
        model = _deserialize(config, custom, safe=True)
        require_built(model, title, options.input_shape)
        _check_activations(model, title)
        declared = sum(_bytes(variable) for variable in model.variables)
        if declared > 2 * stored + SLACK:
            raise UnsafeError(
                f"{title}: its layers declare {declared:,} bytes of weights, the file holds {stored:,}\n"
                "refused; the configuration does not belong to these weights"
            )
    for variable in model.weights:
        variable._initializer = keras.initializers.Zeros()  # they will be overwritten: no need for random values
    with keras.StatelessScope():
        pass  # on leaving this scope, Keras allocates the declared variables
    return model


def _built_at_once(config: JsonObject, custom: CustomObjects, options: SourceOptions, title: str) -> KerasModel:
    model = _deserialize(config, custom, safe=not options.trust)
    require_built(model, title, options.input_shape)
    return model


def _check_activations(model: KerasModel, title: str) -> None:
    """Refuse a layer or an operation whose output for one sample is beyond the limit; nothing has been computed yet."""
    import keras

    for layer in _operations(model):
        for node in layer._inbound_nodes:
            for tensor in keras.tree.flatten(node.output_tensors):
                elements = math.prod(size for size in tensor.shape if size is not None)
                if elements > MAX_ELEMENTS:
                    kind = "layer" if isinstance(layer, keras.layers.Layer) else f"operation {type(layer).__name__}"
                    raise UnsafeError(
                        f"{title}: {kind} {layer.name}: declares {elements:,} values for one sample\n"
                        f"refused; the limit is {MAX_ELEMENTS:,}"
                    )


def _operations(model: KerasModel) -> list[KerasOperation]:
    """All layers and operations of `model`, of the models inside it, too."""
    found: dict[int, KerasOperation] = {}
    waiting = list(model._flatten_layers())
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting += getattr(each, "operations", ())
    return list(found.values())


def _bytes(variable: KerasVariable) -> int:
    """The memory that a variable takes, by its shape and the number of bits in the name of its dtype."""
    digits = "".join(character for character in str(variable.dtype) if character.isdigit())
    return int(math.prod(variable.shape)) * max(1, int(digits or 8) // 8)


def _built_elsewhere(text: str, options: SourceOptions) -> KerasModel:
    """The model that `options.builder` returns, for a file that gives its weights only."""
    if not options.builder:
        raise InputError(
            f"{text}: holds weights only, no architecture\n"
            "give the function that builds the model with --builder package.module:function"
        )
    return call_builder(options.builder, options.kwargs)


def _require_file(path: Path, text: str) -> None:
    refuse_directory(text)
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"did you mean {path.parent / close[0]}?" if close else "check the path"
        raise InputError(f"{text}: no such file\n{hint}")
    if not path.is_file():
        raise InputError(f"{text}: not a regular file\ngive the .keras or .h5 file that Keras saved")


def _registered() -> set[str]:
    """Names that this process has registered with Keras: none before Keras is imported, and then it is not imported."""
    if "keras" not in sys.modules:
        return set()
    import keras

    return set(keras.saving.get_custom_objects())
