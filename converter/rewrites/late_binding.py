"""Rule: branches that were meant as groups but all read the same slice, as Lambdas made in a loop do.

`Lambda(lambda x: x[..., c * g:(c + 1) * g])` looks `c` up when it runs, not when it is made; after the loop, `c` has
its last value for every branch, in training and in prediction. The weights were trained with that function, so it is
kept by default: one slice and one ordinary convolution with all kernels. `groups="as-written"` instead builds the
grouped convolution that the source describes, and reports that the function was changed.
"""

from __future__ import annotations

import builtins
import dis
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import numpy as np

from converter.core.foreign import KerasLayer, Tensor
from converter.rewrites.branches import Branches, find, joined, name_for, name_of
from converter.rewrites.graph import Compute, Graph, Values
from converter.rewrites.grouped_convolution import spans
from converter.rewrites.rule import Context, Replacement, Rule

PRESERVED = "the branches all read one slice; the model's own function is kept"
AS_WRITTEN = "the function was changed on purpose: groups as the source describes them, not as the model computes"


def match(graph: Graph) -> Iterator[Branches]:
    """Every place with slices, convolutions and a join whose slices are all the same by late binding."""
    yield from (site for site in find(graph) if site.late and _bound_late(graph, site))


def _bound_late(graph: Graph, site: Branches) -> bool:
    """Whether each slice is a Lambda that looks a variable up when it runs: equal slices may also be meant as such."""
    from keras import layers

    slicing = [graph.producer(tensor).operation for tensor in site.slices]
    return all(isinstance(each, layers.Lambda) and _looks_up_a_value(each.function) for each in slicing)


def _looks_up_a_value(function: Callable[..., object]) -> bool:
    """Whether `function` reads a variable of an enclosing function, or a global that is a value and not code."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    names = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    known = {**vars(builtins), **getattr(function, "__globals__", {})}
    values = [known.get(name) for name in names]
    return bool(code.co_freevars) or any(not isinstance(value, ModuleType) and not callable(value) for value in values)


def check(graph: Graph, site: Branches, context: Context) -> str:
    """Why the branches cannot have been meant as groups of equal width, "" where they can."""
    channels = sorted(site.channels[0])
    total, count, width = int(site.source.shape[site.axis]), len(site.channels), len(channels)
    if count * width != total:
        return f"all {count} branches read channels {spans(channels)} of {total}: {count} times {width} is not {total}"
    if channels != list(range(channels[0], channels[0] + width)):
        return f"all {count} branches read channels {spans(channels)}, which are not contiguous"
    return ""


def replace(graph: Graph, site: Branches, context: Context) -> Replacement:
    """The slice and one convolution; as written, a grouped convolution over all channels."""
    name = name_for(graph, site)
    rows = [np.argsort(channels).tolist() for channels in site.channels]
    call: Compute
    if context.groups == "as-written":
        call = layer = joined(site, name, len(rows), int(site.source.shape[site.axis]), rows)
        meant, note = _meant(site), AS_WRITTEN
    else:
        layer = joined(site, name, 1, len(rows[0]), rows)
        call = _on_slice(graph, site, layer)
        meant, note = None, PRESERVED
    return Replacement(
        name=name,
        sources=(site.source,),
        target=site.target,
        call=call,
        layers=(layer,),
        nodes=site.nodes(graph),
        meant=meant,
        note=note,
        warning=_line(graph, site),
    )


def _on_slice(graph: Graph, site: Branches, layer: KerasLayer) -> Compute:
    """`layer` on the one slice that all branches read.

    The slice is Keras's indexing operation: unlike a Lambda it is saved as data and loads in safe mode.
    """
    from keras.src.ops.numpy import GetItem

    slicing = GetItem(name=graph.new_name(f"{layer.name}_slice", site.slices[0], site.nodes(graph)))
    first = min(site.channels[0])
    key = _key(site, first, first + len(site.channels[0]))
    return lambda inputs: layer(slicing(inputs, key))


def warn(replacements: Sequence[Replacement], context: Context) -> str:
    """What happened, where, and how to fix the source: one text for all places."""
    places = "\n".join(f"  {replacement.warning}" for replacement in replacements)
    if context.groups == "as-written":
        done = (
            "--groups as-written: THE FUNCTION WAS CHANGED ON PURPOSE. Each branch now reads the group that the source "
            "describes;\n  the weights were not trained for that, so predictions differ from the model's own."
        )
    else:
        done = (
            "The model's real function is kept, because its weights were trained with it: the new model has one slice "
            "and one\n  ordinary convolution. --groups as-written builds what the source describes instead."
        )
    return (
        f"GROUPS ARE NOT GROUPS: in {len(replacements)} place(s) every branch reads the same channels.\n{places}\n"
        "  The cause is a Lambda in a loop: it looks its variable up when it runs, and by then the loop is over.\n"
        "  Fix the source and train again: bind the variable as a default argument, `lambda x, c=c: ...`.\n"
        f"  {done}"
    )


def _line(graph: Graph, site: Branches) -> str:
    """One place in words: its layers, the channels that it reads, and those that nothing reads."""
    channels, total = site.channels[0], int(site.source.shape[site.axis])
    never = [channel for channel in range(total) if channel not in channels]
    slices = [graph.producer(tensor).operation.name for tensor in site.slices]
    return (
        f"{graph.path}{name_of(site)}: the {len(slices)} slices {slices[0]} … {slices[-1]} (convolutions "
        f"{site.layers[0].name} … {site.layers[-1].name}) all read channels {spans(channels)} of {total}; channels "
        f"{spans(never)} are never read: {len(never) / total:.0%} of the input is ignored"
    )


def _meant(site: Branches) -> Callable[[Tensor], Values]:
    """What the slices should return: branch k the k-th block of channels, each in the slice's own order."""
    first = min(site.channels[0])

    def values(source: Tensor) -> Values:
        width = len(site.channels[0])
        meant: dict[int, Tensor] = {}
        for branch, tensor in enumerate(site.slices):
            block = source[_key(site, branch * width, (branch + 1) * width)]
            order = [channel - first for channel in site.channels[branch]]
            meant[id(tensor)] = block if order == sorted(order) else _reordered(block, order, site.axis)
        return meant

    return values


def _reordered(block: Tensor, order: Sequence[int], axis: int) -> Tensor:
    from keras import ops

    return ops.take(block, list(order), axis=axis)


def _key(site: Branches, start: int, stop: int) -> tuple[slice, ...]:
    """The index that selects channels start to stop."""
    whole = [slice(None)] * len(site.source.shape)
    whole[site.axis] = slice(start, stop)
    return tuple(whole)


RULE = Rule("late-binding-groups", match, name_of, check, replace, warn)
