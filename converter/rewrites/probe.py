"""What a slice or a join does, measured: it runs on numbers that show where each output value came from.

Source code is never read: a Lambda that seems to take channels 0 to 3 may take others. Every element of the probe is
its own index, so a crop, a flip or arithmetic is detected too, not only a choice of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converter.core.data import Array
from converter.core.foreign import KerasNode, KerasTensor, Tensor
from converter.core.text import first_line
from converter.rewrites.graph import Graph, arguments, call_errors
from converter.rewrites.rule import as_array

EXACT = 2**24  # float32 holds every integer up to here
LARGEST = 2**22  # elements of a probe or of a proof's input, unless one axis alone needs more
SMALL = 16  # size of a dynamic axis, and of one that is cut to stay within LARGEST


class NotASliceError(ValueError):
    """The call does something other than choose channels; the message says what."""


def sizes(shape: Sequence[int | None], channel: int, at_least: int = 1) -> tuple[int, ...]:
    """A concrete shape for a tensor of `shape`, batch first: its real sizes where they are known and not too large.

    The axis `channel` keeps its size. Dynamic axes get `SMALL` or `at_least`; a dynamic batch gets 2.
    """
    small = max(SMALL, at_least)
    channel %= len(shape)
    real = [size if size is not None else (2 if axis == 0 else small) for axis, size in enumerate(shape)]
    if int(np.prod(real)) <= LARGEST:
        return tuple(real)
    cut = [size if axis in (0, channel) else min(size, small) for axis, size in enumerate(real)]
    cut[0] = real[0] if shape[0] is not None else 1
    return tuple(cut)


def ramp(shape: Sequence[int], start: int = 0) -> Array:
    """start, start + 1, … in float32 of `shape`. Raises NotASliceError where float32 lacks such integers."""
    count = int(np.prod(shape))
    if start + count > EXACT:
        raise NotASliceError(f"a tensor of {tuple(shape)} is too large for a probe")
    return np.arange(start, start + count, dtype=np.float32).reshape(tuple(shape))


def _front(values: Array, axis: int) -> Array:
    """The channels of the first element along every other axis."""
    front: Array = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])[0]
    return front


def _run(node: KerasNode, values: Mapping[int, Array | Tensor], what: str) -> list[Tensor]:
    """The outputs of one call on concrete values, without the casts of mixed precision."""
    from keras import ops, tree

    tensors = {key: ops.convert_to_tensor(value) for key, value in values.items()}
    args, kwargs = arguments(node, lambda tensor: tensors[id(tensor)])
    try:
        return list(tree.flatten(node.operation.call(*args, **kwargs)))
    except call_errors() as error:
        raise NotASliceError(f"{what} fails on a probe: {first_line(error)}") from error


def sliced_channels(graph: Graph, tensor: KerasTensor, axis: int) -> tuple[int, ...]:
    """The channels of its input that the call which makes `tensor` returns, in order.

    `axis` is the channel axis, 1 or -1. Raises NotASliceError where the call does anything else.
    """
    from keras import ops

    node = graph.producer(tensor)
    source = node.input_tensors[0]
    name = node.operation.name
    ramps, results = graph.notes.ramps, graph.notes.slices
    if (id(source), axis) not in ramps:
        numbers = ramp(sizes(source.shape, axis))
        ramps[(id(source), axis)] = (numbers, ops.convert_to_tensor(numbers))
    values, given = ramps[(id(source), axis)]
    if id(node) not in results:
        results[id(node)] = [as_array(value) for value in _run(node, {id(source): given}, name)]
    index = next(index for index, output in enumerate(node.outputs) if output is tensor)
    found = results[id(node)][index]
    if found.ndim != values.ndim:
        raise NotASliceError(f"{name} changes the rank")
    where = {float(value): channel for channel, value in enumerate(_front(values, axis))}
    channels = tuple(where.get(float(value), -1) for value in _front(found, axis))
    expected = np.take(values, [max(channel, 0) for channel in channels], axis=axis)
    if -1 in channels or not np.array_equal(found, expected):
        raise NotASliceError(f"{name} does more than choose channels")
    return channels


def joined_channels(node: KerasNode, axis: int) -> tuple[tuple[int, int], ...]:
    """For every output channel of the call `node`: the index of the input tensor it comes from, and its channel there.

    Raises NotASliceError where the call is not a concatenation along the channel axis.
    """
    name = node.operation.name
    parts: list[Array] = []
    start = 0
    for tensor in node.input_tensors:
        part = ramp(sizes(tensor.shape, axis), start)
        start += part.size
        parts.append(part)
    feeds = {id(tensor): part for tensor, part in zip(node.input_tensors, parts, strict=True)}
    outputs = _run(node, feeds, name)
    found = as_array(outputs[0])
    where = {
        float(value): (branch, channel)
        for branch, part in enumerate(parts)
        for channel, value in enumerate(_front(part, axis))
    }
    if len(outputs) != 1 or found.ndim != parts[0].ndim:
        raise NotASliceError(f"{name} does not join its inputs along the channel axis")
    columns = tuple(where.get(float(value), (-1, -1)) for value in _front(found, axis))
    if (-1, -1) in columns or len({part.shape for part in parts}) != 1:
        raise NotASliceError(f"{name} does not join its inputs along the channel axis")
    stacked = np.stack([np.take(parts[branch], channel, axis=axis) for branch, channel in columns], axis=axis)
    if not np.array_equal(found, stacked):
        raise NotASliceError(f"{name} does not join its inputs along the channel axis")
    return columns
