"""TensorFlow, for the SavedModel: loads it without Keras and calls its `serving_default` signature."""

from __future__ import annotations

import os
from pathlib import Path

from converter.core import Array, Arrays, Artifact, Prepared, Runtime
from converter.errors import InputError

SIGNATURE = "serving_default"


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

    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[SIGNATURE]
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(f"{path}: TensorFlow cannot load it: {str(error).splitlines()[0][:300]}") from error
    missing = {spec.name for spec in artifact.inputs} ^ set(function.structured_input_signature[1])
    missing |= {spec.name for spec in artifact.outputs} ^ set(function.structured_outputs)
    if missing:
        raise InputError(f"{path}: {SIGNATURE} and the manifest disagree on {', '.join(sorted(missing))}")

    def run(inputs: Arrays) -> dict[str, Array]:
        outputs = loaded.signatures[SIGNATURE](**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return Prepared(run, {"tensorflow": tf.__version__, "signature": SIGNATURE})


RUNTIME = Runtime("tensorflow", ("saved-model",), ("cpu",), version, unavailable, prepare)
