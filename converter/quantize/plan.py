"""Which operators of a graph compute in int8, and the scale of every tensor between them: one plan for both formats.

A format describes its graph as `Operator`s; what ONNX writes as Conv and Relu and TFLite as one CONV_2D is one operator
in both. Ranges are given by tensor. Operators that only move values, or take the largest of them, share one scale
between what they read and what they write, and so do the inputs of a Concat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from converter.core.data import Array
from converter.quantize.ranges import Scale, scale_of

Kind = Literal["weights", "share", "free", "float"]
Range = tuple[float, float]

ENDS = "it ends the model, and int8 has too few probabilities"
"""Why the sigmoid or tanh of an output stays in float"""


@dataclass(frozen=True)
class Kernel:
    """The weights of a convolution or a dense layer, by their names in the file, and the axis of output channels.

    `bias` is "" if there is none.
    """

    name: str
    array: Array
    axis: int
    bias: str = ""
    bias_array: Array | None = None


@dataclass(frozen=True)
class Operator:
    """One step of a graph, of one or several nodes; `nodes` are their positions in the file.

    `kind` is "weights" for what has a kernel, "share" for what keeps the scale, "free" for what may change it, "float"
    for what has no int8 form, with the `reason`. `fixed` is the scale that the result always has. `constants` are the
    operands that are constants, by name.
    """

    kind: Kind
    name: str
    layer: str
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: Kernel | None = None
    fixed: Scale | None = None
    constants: Mapping[str, Array] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Kept:
    """An operator of a Keras layer that stays in float, and why."""

    layer: str
    operator: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The operators of a graph that compute in int8, by position, and the scale of each tensor that they touch."""

    int8: frozenset[int]
    scales: Mapping[str, Scale]
    kept: tuple[Kept, ...]


def plan(
    operators: Sequence[Operator],
    ranges: Mapping[str, Range],
    keep: Collection[str] = (),
) -> Plan:
    """The plan for `operators`, which are in the order in which they run.

    `ranges` has the range of every float tensor that was seen, `keep` are the Keras layers that stay in float.
    """
    ranges = completed(operators, ranges)
    chosen: set[int] = set()
    kept: list[Kept] = []
    made: set[str] = set()
    for index, each in enumerate(operators):
        reason = _refusal(each, ranges, keep)
        if not reason and each.kind != "weights" and not made & set(each.inputs):
            continue  # between float operators: int8 would only round
        if reason:
            kept.append(Kept(each.layer, each.name, reason))
            continue
        chosen.add(index)
        made.update(each.outputs)
    groups = _Groups()
    fixed: dict[str, Scale] = {}
    for index in sorted(chosen):
        each = operators[index]
        if each.fixed is not None:
            fixed.update(dict.fromkeys(each.outputs, each.fixed))
    for index in sorted(chosen):
        each = operators[index]
        if each.kind == "share":
            wanted = {groups.find(name) for name in (*each.inputs, *each.outputs)}
            limits = {fixed[name] for name in fixed if groups.find(name) in wanted}
            if limits and len(each.inputs) > 1:
                chosen.discard(index)
                kept.append(Kept(each.layer, each.name, "one of its inputs has a fixed scale, which the others lack"))
                continue
            for name in (*each.inputs, *each.outputs):
                groups.join(each.inputs[0], name)
    return Plan(frozenset(chosen), _scales(operators, chosen, ranges, groups, fixed), tuple(kept))


def completed(operators: Sequence[Operator], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """`ranges`, and those of tensors that no runtime shows, on either side of an operator that only moves values.

    Such as a batch that holds patches of images, whose first axis is not the samples.
    """
    found = dict(ranges)
    for step in (*operators, *reversed(operators)):
        if step.kind != "share":
            continue
        known = [found[name] for name in (*step.inputs, *step.outputs) if name in found]
        if known:
            whole = min(low for low, _ in known), max(high for _, high in known)
            for name in (*step.inputs, *step.outputs):
                found.setdefault(name, whole)
    return found


def _refusal(each: Operator, ranges: Mapping[str, Range], keep: Collection[str]) -> str:
    """Why an operator stays in float, or ""."""
    if each.kind == "float":
        return each.reason
    if each.layer in keep:
        return "kept in float as requested"
    unseen = [name for name in (*each.inputs, *each.outputs) if name not in ranges]
    return f"the values of {unseen[0]} were not seen while calibrating" if unseen else ""


def _scales(
    operators: Sequence[Operator],
    chosen: Collection[int],
    ranges: Mapping[str, Range],
    groups: _Groups,
    fixed: Mapping[str, Scale],
) -> dict[str, Scale]:
    """The scale of each tensor that an int8 operator reads or writes: that of the whole range of its group."""
    names = dict.fromkeys(
        name for index in sorted(chosen) for name in (*operators[index].inputs, *operators[index].outputs)
    )
    whole: dict[str, Range] = {}
    given: dict[str, Scale] = {}
    for name in names:
        root = groups.find(name)
        low, high = ranges[name]
        before = whole.get(root, (low, high))
        whole[root] = min(before[0], low), max(before[1], high)
        if name in fixed:
            given[root] = fixed[name]
    return {name: given.get(groups.find(name)) or scale_of(*whole[groups.find(name)]) for name in names}


class _Groups:
    """Sets of tensors with one scale: each name leads to the first name of its set."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for the set of `name`."""
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def join(self, one: str, other: str) -> None:
        """Make one set of those of both names."""
        first, second = self.find(one), self.find(other)
        if first != second:
            self._parents[second] = first
