"""TensorFlow on the CPU: loads a SavedModel without Keras and calls its `serving_default` signature."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnsafeError
from converter.core.foreign import FunctionDef, MetaGraph, NodeDef
from converter.core.machine import quick_imports
from converter.core.text import first_line
from converter.runtimes.shared.graph_operations import OPERATIONS, SAVER
from converter.runtimes.shared.installed import installed, missing

SIGNATURE = "serving_default"


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
    with quick_imports():
        import tensorflow  # noqa: F401


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load a SavedModel directory.

    Raises InputError where TensorFlow refuses it or the signature's names are not those of `artifact`, UnsafeError
    where it has an operation that accesses files.
    """
    warm()
    import tensorflow as tf

    try:
        inputs = refuse_files(path)
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[SIGNATURE]
    except UnsafeError:
        raise
    except Exception as error:  # TensorFlow has no error of its own for a damaged file
        raise InputError(f"{path}: TensorFlow cannot load it: {first_line(error)}") from error
    different = {spec.name for spec in artifact.inputs} ^ inputs
    different |= {spec.name for spec in artifact.outputs} ^ set(function.structured_outputs)
    if different:
        raise InputError(f"{path}: {SIGNATURE} and the manifest differ in the names {', '.join(sorted(different))}")

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            outputs = loaded.signatures[SIGNATURE](**{name: tf.constant(array) for name, array in inputs.items()})
        except Exception as error:  # as above
            raise InputError(f"{path}: TensorFlow cannot run it: {first_line(error)}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return Prepared(run, {"tensorflow": tf.__version__, "signature": SIGNATURE})


def refuse_files(path: Path) -> set[str]:
    """The names of the inputs of the signature.

    Raises UnsafeError where the SavedModel has an operation that inference does not need: it is a program, not data.
    Those that save and restore variables are allowed in the functions that only the saver calls.
    """
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    metas = parse_saved_model(str(path)).meta_graphs
    for meta in metas:
        functions = {each.signature.name: each for each in meta.graph_def.library.function}
        saving = _savers(meta, functions)
        parts = [(meta.graph_def.node, False), *((each.node_def, name in saving) for name, each in functions.items())]
        for nodes, saves in parts:
            for node in nodes:
                if node.op not in OPERATIONS and node.op not in functions and not (saves and node.op in SAVER):
                    raise UnsafeError(
                        f"{path}: has the operation {node.op[:100]}\nrefused; inference does not need it; "
                        "it may access more than the model"
                    )
    return {name for meta in metas if SIGNATURE in meta.signature_def for name in meta.signature_def[SIGNATURE].inputs}


def _savers(meta: MetaGraph, functions: Mapping[str, FunctionDef]) -> set[str]:
    """The functions that save and restore variables: reached from the saver's nodes, and from nothing else."""
    saver = meta.saver_def
    named = {name.split(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name) if name}
    nodes = {node.name: node for node in meta.graph_def.node}
    for name in list(named):
        named |= {source.split(":")[0].lstrip("^") for source in (nodes[name].input if name in nodes else ())}
    answers = {tensor.name.split(":")[0] for each in meta.signature_def.values() for tensor in each.outputs.values()}
    own = [node for node in meta.graph_def.node if node.name in named - answers]
    others = [node for node in meta.graph_def.node if node not in own]
    saving = _reached(own, functions)
    called = set(meta.object_graph_def.concrete_functions) | _reached(others, functions)
    rest = [node for name, each in functions.items() if name not in saving for node in each.node_def]
    called |= _reached([node for name in called if name in functions for node in functions[name].node_def], functions)
    return saving - called - _reached(rest, functions)


def _reached(nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> set[str]:
    """The functions that `nodes` name, as attributes or as operations, directly or through others."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        names = {node.op, *(value.func.name for value in node.attr.values() if value.HasField("func"))}
        names |= {each.name for value in node.attr.values() if value.HasField("list") for each in value.list.func}
        for name in names & functions.keys() - found:
            found.add(name)
            waiting.extend(functions[name].node_def)
    return found


RUNTIME = Runtime("tensorflow", ("saved-model",), ("cpu",), version, unavailable, prepare, warm=warm)
