"""Traced -> saved_model/: a small tf.Module with the graph, its weights as variables, one `serving_default` signature.

The graph holds no Keras objects and no XLA-only function, so every TensorFlow runtime loads it. TensorFlow fuses a
convolution with its bias and activation when it loads a graph, and its fused CPU kernel does not support groups; an
EnsureShape after a grouped convolution, which copies nothing, prevents this.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import keyword
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from converter.core.data import Array, Artifact, Format, Interface, Traced, WriteOptions
from converter.core.foreign import GraphDef, Tensor, TfFunction, TfVariable
from converter.core.jsonable import plain
from converter.data.about import ABOUT_FILE, LABEL_FILE, text_entries
from converter.tracing.functions import all_nodes

FILENAME = "saved_model"
SIGNATURE = "serving_default"
FINGERPRINT = "fingerprint.pb"
_SHARED = 1 << 20  # bytes from which a copy counts
EXTRA = "assets.extra"  # tf.saved_model: files of the user
_PARAMETER = re.compile(r"[a-z][a-z0-9_]*")


def write(traced: Traced, directory: Path, options: WriteOptions) -> Artifact:
    """Write `directory/saved_model/`; always channels-last, `options.layout` is ignored."""
    import tensorflow as tf

    started = time.perf_counter()
    path = directory / FILENAME
    module = tf.Module(name="cnnexport")
    module.weights = {
        _attribute(index): tf.Variable(_tensor(array), trainable=False, name=name)
        for index, (name, array) in enumerate(traced.weights.items())
    }
    signature = _signature(traced, _without_fusing(traced.graph_def), module.weights)
    tf.saved_model.save(module, str(path), signatures={SIGNATURE: signature})
    _name_inputs(path / "saved_model.pb", _parameters(traced.inputs))
    _write_about(path, traced)
    _name_by_content(path / FINGERPRINT)
    files = sorted(file.relative_to(directory).as_posix() for file in path.rglob("*") if file.is_file())
    operators = Counter(node.op for node in all_nodes(traced.graph_def) if node.op not in ("Const", "Placeholder"))
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


def _tensor(array: Array) -> Tensor:
    """A tensor with the values of `array`; it shares the memory of a large one, which has to outlive it."""
    import tensorflow as tf

    if array.nbytes < _SHARED or array.dtype != np.float32 or not array.flags.c_contiguous:
        return tf.constant(array)
    content = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)  # DLPack takes no array that is read-only
    writable = np.frombuffer(memoryview(content), array.dtype).reshape(array.shape)
    return tf.experimental.dlpack.from_dlpack(writable.__dlpack__())


def _attribute(index: int) -> str:
    return f"w{index:05d}"


def _without_fusing(graph_def: GraphDef) -> GraphDef:
    """`graph_def` with an EnsureShape between each grouped Conv2D and its readers."""
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    grouped = {
        operation.name: operation.outputs[0].shape
        for operation in graph.get_operations()
        if operation.type == "Conv2D" and operation.inputs[0].shape[-1] != operation.inputs[1].shape[2]
    }
    if not grouped:
        return graph_def
    result = graph_pb2.GraphDef()
    result.CopyFrom(graph_def)
    for node in result.node:
        node.input[:] = [f"{name}/whole" if name in grouped else name for name in node.input]
    for name, shape in grouped.items():
        barrier = result.node.add(name=f"{name}/whole", op="EnsureShape", input=[name])
        barrier.attr["T"].type = graph.get_operation_by_name(name).outputs[0].dtype.as_datatype_enum
        barrier.attr["shape"].shape.CopyFrom(shape.as_proto())
    return result


def _signature(traced: Traced, graph_def: GraphDef, variables: Mapping[str, TfVariable]) -> TfFunction:
    """The function of inputs by name to outputs by name that computes `graph_def` with `variables` as its weights."""
    import tensorflow as tf

    names, parameters = list(traced.weights), _parameters(traced.inputs)
    specs = {
        parameters[name]: tf.TensorSpec(spec.shape, spec.dtype, name=parameters[name])
        for name, spec in traced.inputs.items()
    }

    def serve(**tensors: Tensor) -> dict[str, Tensor]:
        feeds = {f"{name}:0": tensors[parameter] for name, parameter in parameters.items()}
        feeds |= {f"{name}:0": variables[_attribute(i)].read_value() for i, name in enumerate(names)}
        fetches = [f"{name}:0" for name in traced.outputs]
        results = tf.graph_util.import_graph_def(graph_def, feeds, fetches, name="")
        return dict(zip(traced.outputs, results, strict=True))

    return tf.function(serve, autograph=False).get_concrete_function(**specs)


def _parameters(names: Collection[str]) -> dict[str, str]:
    """The parameter of the signature's function for each input: its name, if TensorFlow takes all names as they are.

    It takes them for Python parameters: in lower case, without a dash, and no keyword.
    """
    if all(_PARAMETER.fullmatch(name) and not keyword.iskeyword(name) for name in names):
        return {name: name for name in names}
    return {name: f"cnnexport_input_{index}" for index, name in enumerate(names)}


def _name_inputs(path: Path, parameters: Mapping[str, str]) -> None:
    """Write the names of the inputs into a saved signature whose parameters have others."""
    from tensorflow.core.protobuf import saved_model_pb2

    names = {parameter: name for name, parameter in parameters.items() if parameter != name}
    if not names:
        return
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        inputs = meta_graph.signature_def[SIGNATURE].inputs
        for parameter, name in names.items():
            inputs[name].CopyFrom(inputs[parameter])
            del inputs[parameter]
        for node in meta_graph.object_graph_def.nodes:
            if node.WhichOneof("kind") == "bare_concrete_function":
                keywords = node.bare_concrete_function.argument_keywords
                keywords[:] = [names.get(each, each) for each in keywords]
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _name_by_content(path: Path) -> None:
    """Replace the random number in a fingerprint, which TensorFlow only logs, by one computed from its checksums."""
    from tensorflow.core.protobuf import fingerprint_pb2

    if not path.is_file():  # TensorFlow writes it since 2.12
        return
    found = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    found.uuid = ""
    digest = hashlib.sha256(found.SerializeToString(deterministic=True)).digest()
    found.uuid = str(int.from_bytes(digest[:16], "big"))
    path.write_bytes(found.SerializeToString(deterministic=True))


def _write_about(path: Path, traced: Traced) -> None:
    """Write the labels and what else belongs to the model to `assets.extra`, which TensorFlow keeps and never reads."""
    if not traced.about:
        return
    extra = path / EXTRA
    extra.mkdir()
    interface = plain(Interface(tuple(traced.inputs.values()), tuple(traced.outputs.values())))
    (extra / ABOUT_FILE).write_text(json.dumps(text_entries(traced.about, interface), sort_keys=True), encoding="ascii")
    labels = traced.about.get("labels") or ()
    if labels:
        (extra / LABEL_FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


FORMAT = Format("saved-model", FILENAME, write, text=True)
