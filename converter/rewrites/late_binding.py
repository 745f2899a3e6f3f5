"""Rule: branches that were meant as groups but all read the same slice, as a Lambda made in a loop does.

`Lambda(lambda x: x[..., c * g:(c + 1) * g])` looks `c` up when it runs, not when it is made; after the loop `c` is
the last one for every branch, in training as in prediction. The weights were trained with that function, so it is
kept by default: one slice and one ordinary convolution with all kernels. `groups="as-written"` builds the grouped
convolution that the source describes instead, and says that the function was changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from converter.rewrites.branches import Branches, find, joined, name_for, name_of
from converter.rewrites.graph import Graph
from converter.rewrites.grouped_convolution import spans
from converter.rewrites.rule import Context, Replacement, Rule


def match(graph: Graph) -> Iterator[Branches]:
    """Every place with slices, convolutions and a join whose slices are all the same one."""
    yield from (site for site in find(graph) if site.late)


def check(graph: Graph, site: Branches, context: Context) -> str:
    """Why the branches are not groups of equal width that went wrong, or ""."""
    channels = sorted(site.channels[0])
    total, count, width = int(site.source.shape[site.axis]), len(site.channels), len(channels)
    if count * width != total:
        return f"all {count} branches read channels {spans(channels)} of {total}: {count} times {width} is no grouping"
    if channels != list(range(channels[0], channels[0] + width)):
        return f"all {count} branches read channels {spans(channels)}, which is no contiguous group"
    return ""


def replace(graph: Graph, site: Branches, context: Context) -> Replacement:
    """The slice and one convolution, or, as written, a grouped convolution over all channels."""
    name = name_for(graph, site)
    rows = [np.argsort(channels).tolist() for channels in site.channels]
    line = _line(graph, site)
    if context.groups == "as-written":
        total = int(site.source.shape[site.axis])
        layer = joined(site, name, len(rows), total, rows)
        note = "the function was changed on purpose: groups as the source describes them, not as the model computes"
        return Replacement(
            name, (site.source,), site.target, layer, (layer,), site.nodes(graph), _meant(site), note, line
        )
    layer = joined(site, name, 1, len(rows[0]), rows)
    first = min(site.channels[0])
    slicing = _slice(site, graph.new_name(f"{name}_slice", site.slices[0], site.nodes(graph)))
    key = _key(site, first, first + len(rows[0]))

    def call(inputs: Any) -> Any:
        return layer(slicing(inputs, key))

    note = "the branches all read one slice; the model's own function is kept"
    return Replacement(name, (site.source,), site.target, call, (layer,), site.nodes(graph), None, note, line)


def warn(replacements: Sequence[Replacement], context: Context) -> str:
    """What happened, where, and how the source is mended: one text for all places."""
    places = "\n".join(f"  {replacement.warning}" for replacement in replacements)
    if context.groups == "as-written":
        done = (
            "--groups as-written: THE FUNCTION WAS CHANGED ON PURPOSE. Each branch now reads the group that the source "
            "describes;\n  the weights were trained otherwise, so predictions differ from the model's own."
        )
    else:
        done = (
            "The model's real function is kept, because its weights were trained with it: what is written is one slice "
            "and one\n  ordinary convolution. --groups as-written builds what the source describes instead."
        )
    return (
        f"GROUPS ARE NOT GROUPS: in {len(replacements)} place(s) every branch reads the same channels.\n{places}\n"
        "  The cause is a Lambda in a loop: it looks its variable up when it runs, and by then the loop is over.\n"
        "  Mend the source and train again: bind the variable as a default argument, `lambda x, c=c: ...`.\n"
        f"  {done}"
    )


def _line(graph: Graph, site: Branches) -> str:
    """One place in words: its layers, the channels it reads and those that nothing reads."""
    channels, total = site.channels[0], int(site.source.shape[site.axis])
    never = [channel for channel in range(total) if channel not in channels]
    slices = [graph.producer(tensor).operation.name for tensor in site.slices]
    return (
        f"{graph.path}{name_of(site)}: the {len(slices)} slices {slices[0]} … {slices[-1]} (convolutions "
        f"{site.layers[0].name} … {site.layers[-1].name}) all read channels {spans(channels)} of {total}; channels "
        f"{spans(never)} are never read: {len(never) / total:.0%} of the input is ignored"
    )


def _meant(site: Branches) -> Any:
    """What the slices were to return: branch k the k-th block of channels, each in the slice's own order."""
    first = min(site.channels[0])

    def values(source: Any) -> Mapping[int, Any]:
        width = len(site.channels[0])
        meant: dict[int, Any] = {}
        for branch, tensor in enumerate(site.slices):
            block = source[_key(site, branch * width, (branch + 1) * width)]
            order = [channel - first for channel in site.channels[branch]]
            meant[id(tensor)] = block if order == sorted(order) else _reordered(block, order, site.axis)
        return meant

    return values


def _reordered(block: Any, order: Sequence[int], axis: int) -> Any:
    from keras import ops

    return ops.take(block, list(order), axis=axis)


def _key(site: Branches, start: int, stop: int) -> tuple[Any, ...]:
    """The index that takes channels start to stop."""
    whole = [slice(None)] * len(site.source.shape)
    whole[site.axis] = slice(start, stop)
    return tuple(whole)


def _slice(site: Branches, name: str) -> Any:
    """Keras's own indexing operation: unlike a Lambda it is saved as data and loads in safe mode."""
    from keras.src.ops.numpy import GetItem

    return GetItem(name=name)


RULE = Rule("late-binding-groups", match, name_of, check, replace, warn)
