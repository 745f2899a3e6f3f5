"""Traced -> saved_model/: a slim module around the graph, its weights as variables, one `serving_default` signature.

The graph holds no Keras objects and no XLA-only function, so it loads wherever a TensorFlow runtime does.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.core import Artifact, Format, Traced, WriteOptions

FILENAME = "saved_model"


def write(traced: Traced, directory: Path, options: WriteOptions) -> Artifact:
    """Write `directory/saved_model/`, channels-last whatever `options.layout` says."""
    import tensorflow as tf

    started = time.perf_counter()
    path = directory / FILENAME
    module = tf.Module(name="cnnexport")
    module.weights = {
        _attribute(index): tf.Variable(array, trainable=False, name=name)
        for index, (name, array) in enumerate(traced.weights.items())
    }
    signature = _signature(traced, module.weights)
    tf.saved_model.save(module, str(path), signatures={"serving_default": signature})
    files = sorted(file.relative_to(directory).as_posix() for file in path.rglob("*") if file.is_file())
    operators = Counter(node.op for node in traced.graph_def.node if node.op not in ("Const", "Placeholder"))
    return Artifact(
        format="saved-model",
        path=FILENAME,
        precision="float32",
        inputs=tuple(traced.inputs.values()),
        outputs=tuple(traced.outputs.values()),
        operators=dict(sorted(operators.items())),
        size=sum((directory / file).stat().st_size for file in files),
        seconds=time.perf_counter() - started,
        options={**asdict(options), "layout": "nhwc", "files": files},
    )


def _attribute(index: int) -> str:
    return f"w{index:05d}"


def _signature(traced: Traced, variables: Any) -> Any:
    import tensorflow as tf

    names = list(traced.weights)
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in traced.inputs.items()}

    def serve(**tensors: Any) -> dict[str, Any]:
        feeds = {f"{name}:0": tensor for name, tensor in tensors.items()}
        feeds |= {f"{name}:0": variables[_attribute(i)].read_value() for i, name in enumerate(names)}
        fetches = [f"{name}:0" for name in traced.outputs]
        results = tf.graph_util.import_graph_def(traced.graph_def, feeds, fetches, name="")
        return dict(zip(traced.outputs, results, strict=True))

    return tf.function(serve, autograph=False).get_concrete_function(**specs)


FORMAT = Format("saved-model", FILENAME, write)
