"""Traced -> model.tflite: TensorFlow's converter on the frozen graph, straight from memory.

The converter is called on a GraphDef, not on a SavedModel or a concrete function: no object tracking and no copy in
between. Grouped convolutions come out as one CONV_2D; TensorFlow (Flex) operators are never let in.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.core import Artifact, Format, Traced, WriteOptions
from converter.errors import ConversionError
from converter.formats.tflite_signature import with_signature
from converter.naming import described_layer

FILENAME = "model.tflite"
_FLATBUFFER_LIMIT = 2**31 - 2**20


def write(traced: Traced, directory: Path, options: WriteOptions) -> Artifact:
    """Write `directory/model.tflite`, channels-last whatever `options.layout` says: TFLite's kernels know nothing else.

    Raises ConversionError, naming the Keras layer, where an operator has no TFLite builtin or the weights pass 2 GB.
    """
    started = time.perf_counter()
    total = sum(array.nbytes for array in traced.weights.values())
    if total > _FLATBUFFER_LIMIT:
        raise ConversionError(
            f"the weights ({total / 1e9:.1f} GB) are more than a TFLite file can hold (2 GB)\nexport ONNX instead"
        )
    flatbuffer = _convert(traced)
    operators = _operators(flatbuffer)
    prefix = with_signature(flatbuffer, list(traced.inputs), list(traced.outputs))
    path = directory / FILENAME
    with path.open("wb") as file:
        file.write(prefix)
        file.write(memoryview(flatbuffer)[8:])
    return Artifact(
        format="tflite",
        path=FILENAME,
        precision="float32",
        inputs=tuple(traced.inputs.values()),
        outputs=tuple(traced.outputs.values()),
        operators=operators,
        size=path.stat().st_size,
        seconds=time.perf_counter() - started,
        options={**asdict(options), "layout": "nhwc", "files": [FILENAME]},
    )


def _convert(traced: Traced) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python import convert

    with tf.Graph().as_default():
        inputs = [tf.compat.v1.placeholder(spec.dtype, spec.shape, name=name) for name, spec in traced.inputs.items()]
        outputs = [tf.compat.v1.placeholder(spec.dtype, spec.shape, name=name) for name, spec in traced.outputs.items()]
    frozen = _frozen(traced)
    try:
        return bytes(convert.convert_graphdef(frozen, inputs, outputs, allow_custom_ops=False))
    except convert.ConverterError as error:
        raise _refusal(str(error), traced.layers) from error


def _frozen(traced: Traced) -> Any:
    """The graph with each weight as a constant."""
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    frozen = graph_pb2.GraphDef()
    frozen.CopyFrom(traced.graph_def)
    for node in frozen.node:
        if node.name in traced.weights:
            array = traced.weights[node.name]
            node.op = "Const"
            node.attr.pop("shape", None)
            tensor = node.attr["value"].tensor
            tensor.dtype = node.attr["dtype"].type
            tensor.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
            tensor.tensor_content = array.tobytes()
    return frozen


def _refusal(message: str, layers: Mapping[str, str]) -> ConversionError:
    """The converter's pages of MLIR, reduced to the operator and the layer."""
    operators = re.findall(r"'(tf\.[A-Za-z0-9]+)' op", message) or re.findall(r"\btf\.([A-Za-z0-9]+)\b", message)
    places = re.findall(r'loc\(\S*?"([^"]+)"', message)
    place = next((described_layer(name.split("@")[0], layers) for name in places if "/" in name), "")
    place = place or next((f"{name} ({layers[name]})" for name in layers if f"{name}/" in message), "the graph")
    operator = operators[0].removeprefix("tf.") if operators else "an operator"
    return ConversionError(
        f"{place}: {operator} has no TFLite builtin operator\nreplace the layer, or export another format"
    )


def _operators(flatbuffer: bytes) -> dict[str, int]:
    from tensorflow.lite.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(flatbuffer, 0)
    histogram: Counter[str] = Counter()
    for graph in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(graph)
        for index in range(subgraph.OperatorsLength()):
            code = model.OperatorCodes(subgraph.Operators(index).OpcodeIndex())
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            histogram[custom.decode() if custom else names.get(builtin, str(builtin))] += 1
    return dict(sorted(histogram.items()))


FORMAT = Format("tflite", FILENAME, write)
