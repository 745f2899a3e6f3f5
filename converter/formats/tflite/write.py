"""Traced -> model.tflite: TensorFlow's converter on the graph without weights, then the weights bound and streamed.

The converter gets a GraphDef whose weights are inputs, which takes a tenth of a second for every size of model. `bind`
makes them constants again, `file` writes. A grouped convolution becomes one CONV_2D; TensorFlow (Flex) operators are
never allowed.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from converter.core.data import Array, Artifact, Format, Interface, Traced, WriteOptions
from converter.core.errors import ConversionError
from converter.core.foreign import FlatbufferObject, GraphDef
from converter.core.jsonable import plain
from converter.tracing.naming import described_layer

FILENAME = "model.tflite"
SIGNATURE_KEY = "serving_default"
_FLATBUFFER_LIMIT = 2**31 - 2**20


def write(traced: Traced, directory: Path, options: WriteOptions) -> Artifact:
    """Write `directory/model.tflite`; always channels-last, as TFLite's kernels are: `options.layout` is ignored.

    Raises ConversionError, which names the Keras layer, where an operator has no TFLite builtin, and where the weights
    take more than 2 GB.
    """
    from converter.formats.tflite import bind, file, metadata, operators, outputs

    started = time.perf_counter()
    total = sum(array.nbytes for array in traced.weights.values())
    if total > _FLATBUFFER_LIMIT:
        raise ConversionError(
            f"the weights ({total / 1e9:.1f} GB) are more than a TFLite file can hold (2 GB)\nexport ONNX instead"
        )
    graph_def, weights = operators.with_biases(operators.replaced(traced.graph_def), traced.weights)
    model, inlined = _converted(replace(traced, graph_def=graph_def, weights=weights))
    buffers = {} if inlined else bind.bind(model, weights)
    outputs.separate(model, list(traced.outputs))
    bind.add_signature(model, SIGNATURE_KEY)
    names = bind.operator_names(model)
    counts = Counter(names[each.opcodeIndex] for graph in model.subgraphs for each in graph.operators)
    interface = plain(Interface(tuple(traced.inputs.values()), tuple(traced.outputs.values())))
    metadata.add(model, traced, interface)
    file.save(model, buffers, directory / FILENAME)
    size = metadata.append_files(directory / FILENAME, traced, interface)
    return Artifact(
        format="tflite",
        path=FILENAME,
        precision="float32",
        inputs=tuple(traced.inputs.values()),
        outputs=tuple(traced.outputs.values()),
        operators=dict(sorted(counts.items())),
        size=size,
        seconds=time.perf_counter() - started,
        options={**asdict(options), "layout": "nhwc", "files": [FILENAME], "weights_inlined": inlined},
    )


def _converted(traced: Traced) -> tuple[FlatbufferObject, bool]:
    """The converted ModelT, and whether its weights are constants in it already.

    TFLite allows some operators only with a constant kernel; then the converter gets the model with its weights.
    """
    from tensorflow.lite.python import convert

    from converter.formats.tflite.operators import FUSED, replaced

    graph_def = traced.graph_def
    for attempt in range(2):
        try:
            return _convert(graph_def, traced, traced.weights), False
        except convert.ConverterError as error:
            if attempt or not any(f"tf.{name}" in str(error) for name in FUSED):
                break
            graph_def = replaced(graph_def, fused=True)
    try:
        return _convert(_frozen(graph_def, traced.weights), traced, {}), True
    except convert.ConverterError as error:
        raise _refusal(str(error), traced.layers) from error


def _convert(graph_def: GraphDef, traced: Traced, weights: Mapping[str, Array]) -> FlatbufferObject:
    """The converter's ModelT for `graph_def`, whose inputs are those of `traced` and `weights`."""
    import tensorflow as tf
    from tensorflow.lite.python import convert
    from tensorflow.lite.python import schema_py_generated as schema

    with tf.Graph().as_default():
        inputs = [tf.compat.v1.placeholder(spec.dtype, spec.shape, name=name) for name, spec in traced.inputs.items()]
        inputs += [tf.compat.v1.placeholder(array.dtype, array.shape, name=name) for name, array in weights.items()]
        outputs = [tf.compat.v1.placeholder(spec.dtype, spec.shape, name=name) for name, spec in traced.outputs.items()]
    flatbuffer = convert.convert_graphdef(graph_def, inputs, outputs, allow_custom_ops=False)
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def _frozen(graph_def: GraphDef, weights: Mapping[str, Array]) -> GraphDef:
    """A copy of the graph with each weight as a constant."""
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    frozen = graph_pb2.GraphDef()
    frozen.CopyFrom(graph_def)
    for node in frozen.node:
        if node.name in weights:
            array = weights[node.name]
            node.op = "Const"
            node.attr.pop("shape", None)
            tensor = node.attr["value"].tensor
            tensor.dtype = node.attr["dtype"].type
            tensor.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
            tensor.tensor_content = array.tobytes()
    return frozen


def _refusal(message: str, layers: Mapping[str, str]) -> ConversionError:
    """The error for the converter's long `message` in MLIR, reduced to the operator and the layer."""
    operators = re.findall(r"'(tf\.[A-Za-z0-9]+)' op", message) or re.findall(r"\btf\.([A-Za-z0-9]+)\b", message)
    places = re.findall(r'loc\(\S*?"([^"]+)"', message)
    place = next((described_layer(name.split("@")[0], layers) for name in places if "/" in name), "")
    place = place or next((f"{name} ({layers[name]})" for name in layers if f"{name}/" in message), "the graph")
    operator = operators[0].removeprefix("tf.") if operators else "an operator"
    return ConversionError(
        f"{place}: {operator} has no TFLite builtin operator\nreplace the layer, or export another format"
    )


FORMAT = Format("tflite", FILENAME, write)
