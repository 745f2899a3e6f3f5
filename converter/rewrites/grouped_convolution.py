"""Rule: slices that tile the channels, a convolution each, joined in the same order → one grouped convolution.

In a grouped convolution with N groups, the k-th block of filters reads the k-th of N equal blocks of input channels
(Krizhevsky et al., 2012), so the trained kernels only have to be put side by side. Where a slice returns its channels
in another order than the input, the rows of its kernel are sorted into the input's order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from converter.rewrites.branches import Branches, find, joined, name_for, name_of
from converter.rewrites.graph import Graph
from converter.rewrites.rule import Context, Replacement, Rule


def match(graph: Graph) -> Iterator[Branches]:
    """Every place with slices, convolutions and a join whose slices are not all the same."""
    yield from (site for site in find(graph) if not site.late)


def check(graph: Graph, site: Branches, context: Context) -> str:
    """Why the slices are not the groups of one convolution, "" where they are."""
    if site.problem:
        return site.problem
    widths = [len(channels) for channels in site.channels]
    if len(set(widths)) > 1:
        return f"unequal branches: they read {_listed(widths)} channels"
    total = int(site.source.shape[site.axis])
    counts = Counter(channel for channels in site.channels for channel in channels)
    if set(counts.values()) != {1} or len(counts) != total:
        twice = [channel for channel, count in counts.items() if count > 1]
        never = [channel for channel in range(total) if channel not in counts]
        faults = [f"{what}: {spans(found)}" for what, found in (("read twice", twice), ("never read", never)) if found]
        return f"the slices do not tile the {total} channels ({'; '.join(faults)})"
    width = widths[0]
    blocks = [sorted(channels) for channels in site.channels]
    if any(block != list(range(block[0], block[0] + width)) for block in blocks):
        return "the slices interleave their channels; the groups of a grouped convolution are contiguous"
    order = [block[0] // width for block in blocks]
    if order != list(range(len(order))):
        return f"the groups are joined in the order {_listed(order)}; a grouped convolution keeps their order"
    return ""


def replace(graph: Graph, site: Branches, context: Context) -> Replacement:
    """One convolution with as many groups as there are branches."""
    total = int(site.source.shape[site.axis])
    rows = [np.argsort(channels).tolist() for channels in site.channels]
    layer = joined(site, name_for(graph, site), len(site.channels), total, rows)
    return Replacement(layer.name, (site.source,), site.target, layer, (layer,), site.nodes(graph))


def spans(channels: Sequence[int]) -> str:
    """Channel numbers as ranges: "0-3, 7"."""
    runs: list[list[int]] = []
    for channel in sorted(set(channels)):
        if runs and channel == runs[-1][1] + 1:
            runs[-1][1] = channel
        else:
            runs.append([channel, channel])
    return ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in runs)


def _listed(numbers: Sequence[int], most: int = 12) -> str:
    """Numbers as text, at most `most` of them."""
    return ", ".join(str(number) for number in numbers[:most]) + (", …" if len(numbers) > most else "")


RULE = Rule("grouped-convolution", match, name_of, check, replace)
