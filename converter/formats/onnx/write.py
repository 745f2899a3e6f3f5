"""Traced -> model.onnx: tf2onnx converts the graph without weights, then the weights are bound and streamed.

tf2onnx gets a graph of a few hundred kilobytes for every size of model. The order of its optimizers is in `transposes`,
binding in `bind`, the file in `file`, and what a runtime's optimizer would get wrong in `padding`. No other package of
cnnexport writes ONNX files.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from converter.core.data import Array, Artifact, Format, Interface, TensorSpec, Traced, WriteOptions
from converter.core.errors import ConversionError
from converter.core.foreign import GraphDef, OnnxGraph, OnnxModel, OnnxNode
from converter.core.text import first_line
from converter.formats.onnx.directions import join_directions
from converter.formats.onnx.operators import replaced
from converter.formats.onnx.order import in_order, names_in, nodes_of, rename
from converter.formats.onnx.resizing import exact_sizes
from converter.tracing.functions import all_nodes
from converter.tracing.naming import described_layer

OPSETS = range(13, 19)
"""The opsets that tf2onnx writes and that are worth reading: 13 to 18."""

FILENAME = "model.onnx"


def write(traced: Traced, directory: Path, options: WriteOptions) -> Artifact:
    """Write `directory/model.onnx`, and `model.onnx.data` beside it above 1.8 GB of weights.

    With `options.layout` "nchw" every image input is channels-first, shape (batch, channels, height, width). Raises
    ConversionError, which names the Keras layer, where an operator has no ONNX counterpart; then no file is written.
    """
    import onnx

    from converter.formats.onnx import bind, file, metadata, padding

    started = time.perf_counter()
    model = _converted(traced, options)
    _refuse_unmapped(
        [(node.op_type, node.domain, node.name) for node in nodes_of(model.graph)],
        {entry.domain: entry.version for entry in model.opset_import},
        traced.layers,
    )
    in_order(model.graph)
    join_directions(model.graph)
    _plain_names(model.graph)
    model = onnx.shape_inference.infer_shapes(model)
    weights = bind.bind(model.graph, traced.weights)
    padding.keep_apart(model.graph)
    _name_axes(model.graph)
    del model.graph.value_info[:]
    model.producer_name, model.producer_version, model.doc_string = "cnnexport", "", ""
    inputs = tuple(_as_written(spec, options.layout) for spec in traced.inputs.values())
    metadata.add(model, traced, Interface(inputs, tuple(traced.outputs.values())))
    try:
        onnx.checker.check_model(_with_weights_as_inputs(model, weights), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"onnx.checker refuses the graph: {first_line(error)}") from error
    operators = Counter(node.op_type for node in nodes_of(model.graph))
    files = file.save(model, weights, directory / FILENAME)
    return Artifact(
        format="onnx",
        path=FILENAME,
        precision="float32",
        inputs=inputs,
        outputs=tuple(traced.outputs.values()),
        operators=dict(sorted(operators.items())),
        size=sum(file.stat().st_size for file in files),
        seconds=time.perf_counter() - started,
        options={**asdict(options), "files": [file.name for file in files]},
    )


def _is_image(spec: TensorSpec) -> bool:
    return spec.layout == "nhwc" and len(spec.shape) == 4


def _as_written(spec: TensorSpec, layout: str) -> TensorSpec:
    if layout == "nhwc" or not _is_image(spec):
        return spec
    batch, height, width, channels = spec.shape
    return replace(spec, shape=(batch, channels, height, width), layout="nchw")


@contextmanager
def _quiet_numpy2() -> Iterator[None]:
    """Within the context, tf2onnx 1.17 finds `np.object`, which numpy 2 no longer has, and its messages are off.

    What it logs is checked by this module itself.
    """
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    missing = "object" not in vars(np)
    if missing:
        vars(np)["object"] = object
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if missing:
            del vars(np)["object"]


def _converted(traced: Traced, options: WriteOptions) -> OnnxModel:
    """The model with weights as graph inputs; tensor names are graph node names with `:0`."""
    import tensorflow as tf

    with _quiet_numpy2():
        import tf2onnx
        import tf2onnx.optimizer
        from tf2onnx import tfonnx

        from converter.formats.onnx import recurrent
        from converter.formats.onnx.repeatable import repeatable
        from converter.formats.onnx.transposes import optimizers

        graph_def, operators = recurrent.stubbed(replaced(traced.graph_def))
        _refuse_called_by_name(graph_def, traced.layers)
        inputs = [f"{name}:0" for name in (*traced.inputs, *traced.weights)]
        outputs = [f"{name}:0" for name in traced.outputs]
        images = [f"{name}:0" for name, spec in traced.inputs.items() if _is_image(spec)]
        with tf.Graph().as_default() as graph, repeatable():
            tf.import_graph_def(graph_def, name="")
            try:
                converted = tfonnx.process_tf_graph(
                    graph,
                    opset=options.opset,
                    input_names=inputs,
                    output_names=outputs,
                    inputs_as_nchw=images if options.layout == "nchw" else None,
                    custom_op_handlers={"PartitionedCall": (recurrent.handler(operators), [])},
                )
                exact_sizes(converted)
                converted.delete_unused_nodes(converted.outputs)  # a handler may leave the node that it replaced
                _refuse_unmapped(
                    [(each.type, each.domain, each.name) for each in converted.get_nodes() if not _is_value(each)],
                    {"": options.opset, **{each.domain: each.version for each in converted.extra_opset or ()}},
                    traced.layers,
                )  # with an operator that they do not know, the optimizers may undo each other's work for ever
                converted = tf2onnx.optimizer.optimize_graph(converted, catch_errors=False, optimizers=optimizers())
            except (ValueError, RuntimeError, KeyError, AssertionError, TypeError, IndexError) as error:
                place = next((name for name in traced.layers if name in str(error)), "the graph")
                raise ConversionError(f"{place}: tf2onnx cannot convert it: {first_line(error)}") from error
            return converted.make_model("cnnexport")


def _refuse_called_by_name(graph_def: GraphDef, layers: Mapping[str, str]) -> None:
    """Raise ConversionError where a function is an operator itself, as TensorFlow's CTC loss has them."""
    functions = {each.signature.name for each in graph_def.library.function}
    for node in all_nodes(graph_def):
        if node.op in functions:
            raise ConversionError(
                f"{described_layer(node.name, layers)}: a function of TensorFlow is an operator of the graph, "
                "which tf2onnx does not convert\nreplace the layer, or export another format"
            )


def _is_value(node: OnnxNode) -> bool:
    """Whether a node of tf2onnx's graph is a constant or an input and not an operator."""
    return bool(node.is_const() or node.is_graph_input())


def _refuse_unmapped(
    nodes: Iterable[tuple[str, str, str]], opsets: Mapping[str, int], layers: Mapping[str, str]
) -> None:
    """Raise ConversionError for the first operator that the opsets, by domain, do not define.

    `nodes` are (operator, domain, name).
    """
    import onnx

    for operator, domain, name in nodes:
        try:
            if domain not in opsets:
                raise onnx.defs.SchemaError(domain)
            onnx.defs.get_schema(operator, opsets[domain], domain)
        except onnx.defs.SchemaError:
            raise ConversionError(
                f"{described_layer(name, layers)}: operator {operator} has no counterpart in ONNX "
                f"opset {opsets.get('', 0)}\nreplace the layer, or export another format"
            ) from None


def _plain_names(graph: OnnxGraph) -> None:
    """Remove the `:0` of TensorFlow's first outputs wherever names stay unique."""
    names = names_in(graph)
    rename(graph, {name: name[:-2] for name in names if name.endswith(":0") and name[:-2] not in names})


def _name_axes(graph: OnnxGraph) -> None:
    """Name a dynamic first axis of an input or output `batch`, and each other dynamic axis differently."""
    for value in (*graph.input, *graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value") or size.dim_value < 1:
                size.dim_param = "batch" if axis == 0 else f"{value.name}_{axis}"


def _with_weights_as_inputs(model: OnnxModel, weights: Mapping[str, Array]) -> OnnxModel:
    """A copy for the checker, with the weights' types and shapes but without their bytes."""
    import onnx

    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    for name, array in weights.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        checked.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, array.shape))
    return checked


FORMAT = Format("onnx", FILENAME, write)
