"""Places where one tensor is sliced by channels, each slice goes through a convolution, and the results are joined.

Tutorials write grouped convolutions like this. Two rules share the pattern: `grouped_convolution` for slices that tile
the channels, `late_binding` for slices that are all the same one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import Array
from converter.core.foreign import KerasLayer, KerasNode, KerasObject, KerasOperation, KerasTensor
from converter.rewrites.graph import Graph, is_layer, is_weightless
from converter.rewrites.layers import altered_weights, array, channel_axis, renew, setting
from converter.rewrites.probe import NotASliceError, joined_channels, sliced_channels

LONGEST = 6  # calls in a branch; a longer one is not a candidate
SAME_IN_ALL = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "data_format", "groups", "use_bias")
ACROSS_CHANNELS = ("softmax", "log_softmax", "sparsemax", "glu")


@dataclass(frozen=True)
class Branches:
    """One such place, its branches in the order of the joined channels.

    `source` is the sliced tensor, `target` the joined one, `axis` the channel axis (1 or -1). Per branch: `slices`
    (the tensor that the convolution reads), `convolutions` (the call), `channels` (those of the source that it reads,
    in order) and `filters` (the filter that makes each of the branch's output channels). `problem` is the reason why
    the place cannot be rewritten; fields that could not be determined are then empty.
    """

    join: KerasNode
    source: KerasTensor
    target: KerasTensor
    axis: int = -1
    slices: tuple[KerasTensor, ...] = ()
    convolutions: tuple[KerasNode, ...] = ()
    channels: tuple[tuple[int, ...], ...] = ()
    filters: tuple[tuple[int, ...], ...] = ()
    problem: str = ""

    @property
    def late(self) -> bool:
        """Whether all branches read the same channels."""
        return len(self.channels) > 1 and len(set(self.channels)) == 1

    @property
    def layers(self) -> tuple[KerasLayer, ...]:
        """The convolution layers."""
        return tuple(node.operation for node in self.convolutions)

    def nodes(self, graph: Graph) -> tuple[KerasNode, ...]:
        """Every call in this place."""
        slicing = {id(graph.producer(tensor)): graph.producer(tensor) for tensor in self.slices}
        return (*slicing.values(), *self.convolutions, self.join)


def name_of(site: Branches) -> str:
    """The join's name, which reports use for the place."""
    return str(site.join.operation.name)


def find(graph: Graph) -> tuple[Branches, ...]:
    """All places in `graph` that look like the pattern; they are searched for once."""
    if graph.notes.branches is None:
        graph.notes.branches = tuple(_candidates(graph))
    return graph.notes.branches


def _candidates(graph: Graph) -> Iterator[Branches]:
    for node in graph.nodes:
        several = len(node.input_tensors) > 1 and len(node.outputs) == 1
        if not several or not is_weightless(node.operation):
            continue
        chains = [_chain(graph, tensor) for tensor in node.input_tensors]
        sources = [id(chain[-1].input_tensors[0]) for chain in chains if chain]
        if len(sources) > 1 and len(set(sources)) < len(sources):
            yield _examine(graph, node, chains)


def _chain(graph: Graph, tensor: KerasTensor) -> list[KerasNode]:
    """The calls from `tensor` back through a convolution to a slice, last call first; [] for any other chain."""
    calls: list[KerasNode] = []
    convolution = None
    while len(calls) < LONGEST:
        node = graph.producer(tensor)
        if len(node.input_tensors) != 1:
            return []
        calls.append(node)
        if convolution is not None and _narrows(node, tensor, channel_axis(convolution.data_format)):
            return calls
        if _is_convolution(node.operation):
            convolution = node.operation
        tensor = node.input_tensors[0]
    return []


def _is_convolution(operation: KerasOperation) -> bool:
    from keras import layers

    return isinstance(operation, layers.Conv1D | layers.Conv2D | layers.Conv3D)


def _narrows(node: KerasNode, tensor: KerasTensor, axis: int) -> bool:
    """Whether `tensor` has fewer channels than the input of the weightless call `node`, and otherwise its shape."""
    source = node.input_tensors[0]
    if not is_weightless(node.operation) or len(source.shape) != len(tensor.shape):
        return False
    before, after = list(source.shape), list(tensor.shape)
    wide, narrow = before.pop(axis), after.pop(axis)
    return before == after and wide is not None and narrow is not None and narrow < wide


def _examine(graph: Graph, join: KerasNode, chains: Sequence[list[KerasNode]]) -> Branches:
    """The details of a candidate. `chains` are the calls of each branch, last call first, in the order of the join."""
    full = next(chain for chain in chains if chain)
    site = Branches(join, full[-1].input_tensors[0], join.outputs[0])
    problem = _wiring(graph, chains)
    if problem:
        return replace(site, problem=problem)
    convolutions = [chain[0] for chain in chains]
    problem = _settings([node.operation for node in convolutions])
    if problem:
        return replace(site, problem=problem)
    site = replace(site, axis=channel_axis(convolutions[0].operation.data_format))
    try:
        columns = joined_channels(join, site.axis)
        slices = [node.input_tensors[0] for node in convolutions]
        channels = [sliced_channels(graph, tensor, site.axis) for tensor in slices]
    except NotASliceError as error:
        return replace(site, problem=str(error))
    count = convolutions[0].operation.filters
    blocks = [columns[start : start + count] for start in range(0, len(columns), count)]
    order = [block[0][0] for block in blocks]
    if sorted(order) != list(range(len(chains))) or any(len({branch for branch, _ in block}) != 1 for block in blocks):
        return replace(site, problem=f"{join.operation.name} mixes the channels of the branches")
    return replace(
        site,
        slices=tuple(slices[branch] for branch in order),
        convolutions=tuple(convolutions[branch] for branch in order),
        channels=tuple(channels[branch] for branch in order),
        filters=tuple(tuple(channel for _, channel in block) for block in blocks),
    )


def _wiring(graph: Graph, chains: Sequence[list[KerasNode]]) -> str:
    """Why a branch is not one slice and one convolution that nothing else reads, "" where all are."""
    for index, chain in enumerate(chains):
        if not chain:
            return f"branch {index} is not a slice of channels followed by a convolution"
        calls = " → ".join(node.operation.name for node in reversed(chain))
        if len(chain) != 2:
            return f"branch {index} is {calls}, not one slice and one convolution"
        convolution, slicing = chain
        if graph.calls(convolution.operation) > 1:
            return f"the convolution {convolution.operation.name} is shared between calls"
        if not graph.private(convolution.input_tensors[0]):
            return f"the slice {slicing.operation.name} has another reader than {convolution.operation.name}"
        if not graph.private(convolution.outputs[0]):
            return f"the convolution {convolution.operation.name} has another reader than the join"
    if len({id(chain[-1].input_tensors[0]) for chain in chains}) > 1:
        return "the branches slice different tensors"
    return ""


def _settings(layers: Sequence[KerasLayer]) -> str:
    """Why the convolutions cannot be made into one, "" where they can."""
    from keras import layers as keras_layers

    first = layers[0]
    for layer in layers:
        if type(layer) not in (keras_layers.Conv1D, keras_layers.Conv2D, keras_layers.Conv3D):
            return f"{layer.name} is a {type(layer).__name__}, whose call may do more than a convolution"
        problem = altered_weights(layer)
        if problem:
            return f"{layer.name}: {problem}"
        if is_layer(layer.activation) and layer.activation.weights:
            return f"the activation of {layer.name} holds weights"
        if type(layer) is not type(first):
            return f"unequal branches: {first.name} is {type(first).__name__}, {layer.name} is {type(layer).__name__}"
        for key in (*SAME_IN_ALL, "activation", "trainable", "dtype_policy"):
            ours, theirs = setting(first, key), setting(layer, key)
            if ours != theirs:
                values = f"{_shown(getattr(first, key))} in {first.name}, {_shown(getattr(layer, key))} in {layer.name}"
                return f"unequal branches: {key} is {values}"
    if first.groups != 1:
        return f"{first.name} is a grouped convolution itself"
    name = getattr(first.activation, "__name__", "")
    if name in ACROSS_CHANNELS:
        return f"the activation {name} of {first.name} acts across the channels of its branch"
    return ""


def _shown(value: KerasObject) -> str:
    return str(getattr(value, "__name__", None) or getattr(value, "name", None) or value)


def joined(site: Branches, name: str, groups: int, width: int, rows: Iterable[Sequence[int]]) -> KerasLayer:
    """One convolution with the trained kernels of all branches side by side, in the order of the join.

    `width` is the number of input channels that it is built for. `rows` gives, per branch, the order of its kernel's
    input channels, so that each meets the channel that it was trained on.
    """
    first = site.layers[0]
    shape = list(site.source.shape)
    shape[site.axis] = width
    kernels: list[Array] = []
    biases: list[Array] = []
    for layer, filters, order in zip(site.layers, site.filters, rows, strict=True):
        kernels.append(array(layer.kernel)[..., list(order), :][..., list(filters)])
        if layer.use_bias:
            biases.append(array(layer.bias)[list(filters)])
    weights = [np.concatenate(kernels, axis=-1)] + ([np.concatenate(biases)] if biases else [])
    changes: dict[str, object] = {"name": name, "filters": weights[0].shape[-1], "groups": groups}
    for key in (
        "kernel_regularizer",
        "bias_regularizer",
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
    ):
        if any(setting(layer, key) != setting(first, key) for layer in site.layers):
            changes[key] = None
    return renew(first, shape, changes, weights)


def name_for(graph: Graph, site: Branches) -> str:
    """A name for the new layer: the common beginning of the branches' names, else the join's name with a suffix.

    These are names that the model's author chose; Keras's counters ("conv2d_7") are never used.
    """
    letters = zip(*(layer.name for layer in site.layers), strict=False)
    common = "".join(column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, letters))
    stem = common.rstrip("0123456789").rstrip("_-. ")
    if stem.startswith(name_of(site)):
        stem = name_of(site)
    wanted = f"{name_of(site)}_grouped" if stem in ("", "conv", "conv1d", "conv2d", "conv3d") else stem
    return graph.new_name(wanted, site.target, site.nodes(graph))
