"""TensorFlow, for the SavedModel: loads it without Keras and calls its `serving_default` signature."""

from __future__ import annotations

import os
from pathlib import Path

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnsafeError
from converter.core.text import first_line

SIGNATURE = "serving_default"
_VARIABLES = "AssignVariableOp DisableCopyOnRead ReadVariableOp VarHandleOp VarIsInitializedOp"
_SAVER = "MergeV2Checkpoints RestoreV2 SaveV2"
_OTHERS = "Assert CheckNumericsV2 RandomStandardNormal RandomUniform StatefulPartitionedCall TruncatedNormal"
HARMLESS = frozenset(f"{_VARIABLES} {_SAVER} {_OTHERS}".split())
"""Operations that TensorFlow calls stateful and that a model may have."""

FILES = frozenset(
    {"DebugIdentity", "DebugNanCount", "DebugNumericSummary", "ImmutableConst", "PyFuncStateless", "ReadFile"}
)
"""Operations that it does not call stateful and that reach beyond the model."""


def version() -> str | None:
    """The installed version, or None."""
    import importlib.metadata

    try:
        return importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:
        return None


def unavailable(device: str) -> str | None:
    """Why TensorFlow cannot run on `device` here, or None. TensorFlow itself is not imported for the answer."""
    import importlib.util

    if device != "cpu":
        return "the SavedModel is verified on the CPU"
    if importlib.util.find_spec("tensorflow") is None:
        return "tensorflow is not installed; pip install tensorflow"
    return None


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load a SavedModel directory. Raises InputError where TensorFlow refuses it or the signature lacks a name."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    # TensorFlow does not judge a damaged graph: it raises what its own code stumbles over
    stumbled = (LookupError, TypeError, AttributeError, AssertionError, RuntimeError)
    errors = (OSError, ValueError, *stumbled, tf.errors.OpError)
    try:
        _refuse_files(path)
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[SIGNATURE]
    except errors as error:
        raise InputError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error
    missing = {spec.name for spec in artifact.inputs} ^ set(function.structured_input_signature[1])
    missing |= {spec.name for spec in artifact.outputs} ^ set(function.structured_outputs)
    if missing:
        raise InputError(f"{path}: {SIGNATURE} and the manifest disagree on {', '.join(sorted(missing))}")

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            outputs = loaded.signatures[SIGNATURE](**{name: tf.constant(array) for name, array in inputs.items()})
        except errors as error:
            raise InputError(f"{path}: TensorFlow cannot run it: {first_line(error)}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return Prepared(run, {"tensorflow": tf.__version__, "signature": SIGNATURE})


def _refuse_files(path: Path) -> None:
    """Raise UnsafeError where the SavedModel holds operations that reach outside of it: it is a program, not data.

    TensorFlow's registry says which have effects. What saves variables stays: TensorFlow puts it into every SavedModel.
    """
    from tensorflow.python.framework import op_def_registry
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    graphs = [meta.graph_def for meta in parse_saved_model(str(path)).meta_graphs]
    found = {node.op for graph in graphs for node in graph.node}
    found |= {node.op for graph in graphs for function in graph.library.function for node in function.node_def}
    for name in sorted(found - HARMLESS):
        known = op_def_registry.get(name)
        if name in FILES or (known is not None and known.is_stateful):
            raise UnsafeError(
                f"{path}: holds the operation {name[:100]}\nrefused; no export has one; it reaches beyond the model"
            )


RUNTIME = Runtime("tensorflow", ("saved-model",), ("cpu",), version, unavailable, prepare)
