"""TensorFlow on the CPU: loads a SavedModel without Keras and calls its `serving_default` signature."""

from __future__ import annotations

import os
from pathlib import Path

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnsafeError
from converter.core.text import first_line
from converter.runtimes.shared.installed import installed, missing

SIGNATURE = "serving_default"
_VARIABLES = "AssignVariableOp DisableCopyOnRead ReadVariableOp VarHandleOp VarIsInitializedOp"
_SAVER = "MergeV2Checkpoints RestoreV2 SaveV2"
_OTHERS = "Assert CheckNumericsV2 RandomStandardNormal RandomUniform StatefulPartitionedCall TruncatedNormal"
HARMLESS = frozenset(f"{_VARIABLES} {_SAVER} {_OTHERS}".split())
"""Operations that TensorFlow's registry marks as stateful and that a model may have"""

FILES = frozenset(
    {"DebugIdentity", "DebugNanCount", "DebugNumericSummary", "ImmutableConst", "PyFuncStateless", "ReadFile"}
)
"""Operations that the registry does not mark as stateful, although they access files or run code"""


def version() -> str | None:
    """The installed version, or None."""
    return installed("tensorflow")


def unavailable(device: str) -> str | None:
    """Why TensorFlow cannot run on `device` here, or None. TensorFlow itself is not imported."""
    return "a SavedModel is verified on the CPU only" if device != "cpu" else missing("tensorflow", "tensorflow")


def warm() -> None:
    """Import TensorFlow, without a GPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a Slurm job sets it to a GPU, and this row is the CPU's
    import tensorflow  # noqa: F401


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load a SavedModel directory.

    Raises InputError where TensorFlow refuses it or the signature's names are not those of `artifact`, UnsafeError
    where it has an operation that accesses files.
    """
    warm()
    import tensorflow as tf

    # TensorFlow has no error for a damaged graph: its own code raises these
    accidental = (LookupError, TypeError, AttributeError, AssertionError, RuntimeError)
    errors = (OSError, ValueError, *accidental, tf.errors.OpError)
    try:
        inputs = refuse_files(path)
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[SIGNATURE]
    except errors as error:
        raise InputError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error
    different = {spec.name for spec in artifact.inputs} ^ inputs
    different |= {spec.name for spec in artifact.outputs} ^ set(function.structured_outputs)
    if different:
        raise InputError(f"{path}: {SIGNATURE} and the manifest differ in the names {', '.join(sorted(different))}")

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            outputs = loaded.signatures[SIGNATURE](**{name: tf.constant(array) for name, array in inputs.items()})
        except errors as error:
            raise InputError(f"{path}: TensorFlow cannot run it: {first_line(error)}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return Prepared(run, {"tensorflow": tf.__version__, "signature": SIGNATURE})


def refuse_files(path: Path) -> set[str]:
    """The names of the inputs of the signature.

    Raises UnsafeError where the SavedModel has operations that access more than the model: it is a program, not data.

    TensorFlow's registry marks operations with side effects. Those that save variables are allowed: TensorFlow puts
    them into every SavedModel.
    """
    from tensorflow.python.framework import op_def_registry
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    metas = parse_saved_model(str(path)).meta_graphs
    graphs = [meta.graph_def for meta in metas]
    found = {node.op for graph in graphs for node in graph.node}
    found |= {node.op for graph in graphs for function in graph.library.function for node in function.node_def}
    for name in sorted(found - HARMLESS):
        known = op_def_registry.get(name)
        if name in FILES or (known is not None and known.is_stateful):
            raise UnsafeError(
                f"{path}: has the operation {name[:100]}\nrefused; no export has it; it accesses more than the model"
            )
    return {name for meta in metas if SIGNATURE in meta.signature_def for name in meta.signature_def[SIGNATURE].inputs}


RUNTIME = Runtime("tensorflow", ("saved-model",), ("cpu",), version, unavailable, prepare, warm=warm)
