"""Faults that depend on the batch or on the size of the image: the ONNX file is right for some inputs.

Each function returns a `Change`, as in `faults.py`. `amount` is a relative error.
"""

from __future__ import annotations

from collections.abc import Callable

from faults import Change
from graph_faults import Graph, at_output, inserted, named, replace_inputs

from converter.core.foreign import OnnxGraph

BATCH, HEIGHT, WIDTH = 0, 2, 3  # of tensors within the graph
ROWS, COLUMNS, CHANNELS = 1, 2, 3  # of an input or output of images

Condition = Callable[[Graph, str], str]
"""The name of a boolean tensor of shape (1,), from that of an input of the model"""


def batch_is(size: int, modulus: int = 0) -> Condition:
    """The batch, or its remainder by `modulus`, is `size`."""

    def condition(graph: Graph, source: str) -> str:
        batch = graph.size(source, BATCH)
        if modulus:
            batch = graph.add("Mod", [batch, graph.constant([modulus], "int64")])
        return graph.add("Equal", [batch, graph.constant([size], "int64")])

    return condition


def not_square(graph: Graph, source: str) -> str:
    return graph.add("Not", [graph.add("Equal", [graph.size(source, ROWS), graph.size(source, COLUMNS)])])


def odd_height(graph: Graph, source: str) -> str:
    remainder = graph.add("Mod", [graph.size(source, ROWS), graph.constant([2], "int64")])
    return graph.add("Equal", [remainder, graph.constant([1], "int64")])


def wrong_where(output: str, condition: Condition, amount: float = 1e-3) -> Change:
    """The output is multiplied by 1 + `amount` where a condition on the shape of the first input holds."""

    def added(graph: Graph, before: str, after: str) -> None:
        holds = graph.float_of(condition(graph, graph.graph.input[0].name))
        factor = graph.add("Add", [graph.add("Mul", [holds, graph.constant([amount])]), graph.constant([1.0])])
        graph.add("Mul", [before, factor], after)

    return at_output(output, added)


def multiplied_by_aspect(output: str) -> Change:
    """The output is multiplied by height / width, as where a coordinate is divided by the other axis's size."""

    def added(graph: Graph, before: str, after: str) -> None:
        height, width = (graph.float_of(graph.size(graph.graph.input[0].name, axis)) for axis in (ROWS, COLUMNS))
        graph.add("Mul", [before, graph.add("Div", [height, width])], after)

    return at_output(output, added)


def batch_mean_subtracted(output: str, amount: float = 1e-3) -> Change:
    """A share of the mean over the batch is subtracted, as by a normalization in its training mode."""

    def added(graph: Graph, before: str, after: str) -> None:
        mean = graph.add("ReduceMean", [before], axes=[0], keepdims=1)
        graph.add("Sub", [before, graph.add("Mul", [mean, graph.constant(amount)])], after)

    return at_output(output, added)


def samples_mixed(output: str) -> Change:
    """An output of shape (N, C) is read as (C, N) and transposed, which is right for one sample only."""

    def added(graph: Graph, before: str, after: str) -> None:
        shape = graph.add("Shape", [before])
        turned = graph.add("Gather", [shape, graph.constant([1, 0], "int64")], axis=0)
        graph.add("Transpose", [graph.add("Reshape", [before, turned])], after, perm=[1, 0])

    return at_output(output, added)


def first_of_batch(output: str, amount: float = 1e-3) -> Change:
    """The output of every sample but the first of a batch moves towards that of the first."""

    def added(graph: Graph, before: str, after: str) -> None:
        first = graph.add("Gather", [before, graph.constant([0], "int64")], axis=0)
        gap = graph.add("Mul", [graph.add("Sub", [first, before]), graph.constant(amount)])
        graph.add("Add", [before, gap], after)

    return at_output(output, added)


def size_baked(output: str, size: int) -> Change:
    """An output of images is always resized to `size` x `size`."""

    def added(graph: Graph, before: str, after: str) -> None:
        batch, channels = graph.size(before, BATCH), graph.size(before, CHANNELS)
        sizes = graph.add("Concat", [batch, graph.constant([size, size], "int64"), channels], axis=0)
        graph.add("Resize", [before, "", "", sizes], after, mode="nearest")

    return at_output(output, added)


def pooled_as(pool: str, auto_pad: str) -> Change:
    """A pool with padding "same" pads another side, or nothing: with a stride of 2, right for even sizes only."""

    def work(graph: OnnxGraph) -> None:
        (padding,) = [each for each in named(graph, pool, "MaxPool").attribute if each.name == "auto_pad"]
        padding.s = auto_pad.encode()

    return work


def average_baked(pool: str, count: int) -> Change:
    """A global average is the sum divided by a fixed number of positions."""

    def work(graph: OnnxGraph) -> None:
        node = named(graph, pool, "GlobalAveragePool")
        average = node.output[0]
        readers = [each for each in graph.node if average in each.input]
        with inserted(graph, readers) as made:
            height, width = (made.float_of(made.size(node.input[0], axis)) for axis in (HEIGHT, WIDTH))
            share = made.add("Div", [made.add("Mul", [height, width]), made.constant([float(count)])])
            wrong = made.add("Mul", [average, share])
        replace_inputs(readers, average, wrong)

    return work
