"""A model file: inspected in a process of its own, mended, rebuilt from its configuration, given its weights."""

from __future__ import annotations

import difflib
import math
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converter.core.data import Source, SourceOptions
from converter.core.errors import InputError, UnsafeError
from converter.core.files import sha256_of
from converter.core.text import one_line
from converter.sources.finish import finish, require_built
from converter.sources.functions import call_builder, custom_objects
from converter.sources.inspection.inspect import inspect_file
from converter.sources.names import major, title_of
from converter.sources.repair.arguments import mend_arguments
from converter.sources.weights import assign_stored
from converter.tracing.context import quiet_tensorflow

MAX_ELEMENTS = 1 << 29  # of one layer's output for one sample: 2 GiB in float32
SLACK = 64 << 20  # bytes that a model may hold beyond what its file stores: random seeds, constants


def load_file(text: str, options: SourceOptions) -> Source:
    """The model in the file `text`: `.keras`, HDF5 of Keras 1, 2 or 3, or weights alone with `options.builder`.

    What it is, is told by its content. Nothing in the file is executed unless `options.trust` is set.
    Raises InputError where it is missing, damaged or no model, UnsafeError where it would run code or is out of all
    proportion, ChildError where inspecting it failed.
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
        facts = inspect_file(
            path,
            Path(directory),
            text,
            custom={*custom, *_registered()},
            trust=options.trust,
            weights_only=bool(options.builder),
        )
        quiet_tensorflow()
        mended: list[str] = []
        if facts["kind"] == "weights" or options.builder:
            model = _built_elsewhere(text, options)
            require_built(model, text, options.input_shape)
        else:
            if facts["assets"]:
                raise InputError(f"{text}: a layer keeps a vocabulary in assets/\nsave the model without that layer")
            mended += facts["mended"]
            if major(facts["version"]) < 3:
                mended += mend_arguments(facts["config"], text)
            model = rebuild(facts, custom, options, text)
        assign_stored(model, Path(facts["weights"]), text, facts.get("renamed") or {})
    detail: dict[str, Any] = {"file": path.name, "sha256": digest.result(), "bytes": path.stat().st_size}
    detail |= {"format": facts["format"], "keras_version": facts["version"]}
    if options.builder:
        detail["builder"] = options.builder
    if options.custom_objects:
        detail["custom_objects"] = list(options.custom_objects)
    if options.trust:
        detail["trusted"] = True
    return finish(model, title_of(text), "file", detail, input_shape=options.input_shape, mended=tuple(mended))


def rebuild(facts: Mapping[str, Any], custom: Mapping[str, Any], options: SourceOptions, title: str) -> Any:
    """The model that `facts["config"]` describes, with fresh weights.

    Variables are declared first and get memory only where their sizes fit the file's, so that a configuration cannot
    ask for more memory than its file has weights. A model with code of its own is built at once.
    """
    import keras

    try:
        if custom or options.trust:
            if options.trust:
                _names_for_lambdas()
            model = _deserialize(facts["config"], custom, safe=not options.trust)
            require_built(model, title, options.input_shape)
            return model
        with _declared_only(), keras.StatelessScope(initialize_variables=False):
            model = _deserialize(facts["config"], custom, safe=True)
            require_built(model, title, options.input_shape)
            _check_activations(model, title)
            declared = sum(_bytes(variable) for variable in model.variables)
            if declared > 2 * facts["bytes"] + SLACK:
                raise UnsafeError(
                    f"{title}: its layers declare {declared:,} bytes of weights, the file holds {facts['bytes']:,}\n"
                    "refused; the configuration does not belong to these weights"
                )
        for variable in model.weights:
            variable._initializer = keras.initializers.Zeros()  # to be overwritten: no need to draw them
        with keras.StatelessScope():
            pass  # leaving it gives the declared variables their memory
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
    """What Keras says of the innermost object that it could not make, with the layer's name where it shows one.

    It wraps each error as "... config={...} ... Exception encountered: " and the error inside.
    """
    around, _, reason = str(error).rpartition("Exception encountered:")
    name = re.search(r"'name': '([^']+)'", around.rpartition("config={")[2])
    return f"{f'layer {name[1][:100]}: ' if name else ''}{type(error).__name__}: {one_line(reason)}"


def _deserialize(config: Mapping[str, Any], custom: Mapping[str, Any], *, safe: bool) -> Any:
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with ObjectSharingScope():  # a layer that stands in two places of the file is one layer
        model = keras.saving.deserialize_keras_object(dict(config), custom_objects=dict(custom), safe_mode=safe)
    if not isinstance(model, keras.Model):
        raise TypeError(f"its configuration describes a {type(model).__name__}, not a model")
    return model


def _names_for_lambdas() -> None:
    """What trusted code in a file may take for granted, as it could when Keras 2 loaded it: tf, K, np, keras.

    Keras runs that code among the names of the module that loads it, at every call of the model, so they stay.
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
    """On an error, forget the variables that were declared: Keras would give them memory at its next opportunity."""
    from keras.src.backend.common import global_state

    try:
        yield
    except BaseException:
        global_state.set_global_attribute("uninitialized_variables", [])
        raise


def _check_activations(model: Any, title: str) -> None:
    """Refuse a layer whose output for one sample is beyond the cap; nothing was computed yet."""
    import keras

    for layer in model._flatten_layers():
        for node in layer._inbound_nodes:
            for tensor in keras.tree.flatten(node.output_tensors):
                elements = math.prod(size for size in tensor.shape if size is not None)
                if elements > MAX_ELEMENTS:
                    raise UnsafeError(
                        f"{title}: layer {layer.name}: declares {elements:,} values for one sample\n"
                        f"refused; the cap is {MAX_ELEMENTS:,}"
                    )


def _bytes(variable: Any) -> int:
    digits = "".join(character for character in str(variable.dtype) if character.isdigit())
    return int(math.prod(variable.shape)) * max(1, int(digits or 8) // 8)


def _built_elsewhere(text: str, options: SourceOptions) -> Any:
    if not options.builder:
        raise InputError(
            f"{text}: holds weights only, no architecture\n"
            "give the function that builds the model with --builder package.module:function"
        )
    return call_builder(options.builder, options.kwargs)


def _require_file(path: Path, text: str) -> None:
    if path.is_dir():
        raise InputError(f"{text}: a directory, not a file\ngive the .keras or .h5 file that Keras saved")
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"did you mean {path.parent / close[0]}?" if close else "check the path"
        raise InputError(f"{text}: no such file\n{hint}")
    if not path.is_file():
        raise InputError(f"{text}: no regular file\ngive the .keras or .h5 file that Keras saved")


def _registered() -> set[str]:
    """Names that this process registered with Keras; in a fresh process, none, and Keras is not imported for it."""
    if "keras" not in sys.modules:
        return set()
    import keras

    return set(keras.saving.get_custom_objects())
