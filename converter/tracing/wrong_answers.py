"""The outputs of the negative controls: what the model answers to changed inputs, and with changed weights.

They are computed by running the model, so that each is what a real mistake would return. A control says nothing where
the model answers alike (channels reversed before a pooling layer, a kernel scaled before a normalization); then the
next kind takes its place. `converter.proof.controls` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.core.data import Array, Arrays, TensorSpec
from converter.core.samples import reverse_channels, shuffle_positions

SCALE = 1.001
"""The factor of some weights of one kernel in the controls "kernel-scaled-1.001" and "weights-scaled-1.001"."""

DEPTHS, MOST = 5, 20
"""How many kernels are tried at first, spread over the depth of the network, and how many more."""

CLEAR = 4
"""By how much an effect has to exceed what is needed, so that no other kernel is tried."""

Answer = Callable[[Arrays, Mapping[str, Array]], dict[str, Array]]
"""The outputs for inputs and for replaced weights, both by name; shape (samples, ...)."""

Effect = Callable[[str, Array, Array], float]
"""How far an output, by name, is from its reference: relative L2 of the worst sample, in the domain of the verdict."""


@dataclass(frozen=True)
class Subject:
    """The model to ask: its `answer` to `inputs`, which was `reference`, and its kernels in the order of the network.

    `needed` is the effect from which a control counts, by output: those that no control reaches are asked again.
    """

    answer: Answer
    inputs: Arrays
    specs: Sequence[TensorSpec]
    reference: Arrays
    kernels: Mapping[str, Array]
    effect: Effect
    needed: Mapping[str, float]


@dataclass
class _Found:
    """The controls that were kept, and the outputs that none of them changes enough yet."""

    subject: Subject
    missing: set[str]
    kept: dict[str, dict[str, Array]] = field(default_factory=dict)

    def effects(self, outputs: Arrays) -> dict[str, float]:
        subject = self.subject
        return {name: subject.effect(name, subject.reference[name], array) for name, array in outputs.items()}


def wrong_answers(subject: Subject) -> dict[str, dict[str, Array]]:
    """The outputs of each control by its name.

    Of the inputs: "channels-reversed" where an input has more than one channel, and "positions-shuffled" if an output
    does not notice. Of the weights: "kernel-scaled-1.001 NAME", half of the filters of one kernel, for the kernel with
    the largest effect on each output; then "weights-scaled-1.001 NAME", half of its elements, and
    "kernel-zeroed NAME", half of its filters, for outputs that do not notice. A control of the first kind is kept even
    if no output notices.
    """
    return {**_of_inputs(subject), **_of_weights(subject)}


def _of_inputs(subject: Subject) -> dict[str, dict[str, Array]]:
    found = _Found(subject, set(subject.reference))
    for name, change in (("channels-reversed", reverse_channels), ("positions-shuffled", shuffle_positions)):
        changed = change(subject.inputs, subject.specs) if found.missing else None
        if changed is None:
            continue
        outputs = subject.answer(changed, {})
        noticed = {each for each, size in found.effects(outputs).items() if size >= subject.needed[each]}
        if name == "channels-reversed" or noticed & found.missing:
            found.kept[name] = outputs
        found.missing -= noticed
    return found.kept


def _of_weights(subject: Subject) -> dict[str, dict[str, Array]]:
    found = _Found(subject, set(subject.reference))
    names = list(subject.kernels)
    places = _spread(len(names), DEPTHS)
    spread = [names[place] for place in sorted(places, key=lambda place: abs(place - len(names) // 2))]
    others = [name for name in names if name not in spread]
    others = [others[place] for place in _spread(len(others), MOST)]
    everywhere = [*spread, *others]
    _keep_best(found, f"kernel-scaled-{SCALE}", spread, _half_of_filters)
    if found.missing:
        _keep_best(found, f"kernel-scaled-{SCALE}", others, _half_of_filters)
    if found.missing:
        _keep_best(found, f"weights-scaled-{SCALE}", everywhere, _half_of_elements)
    if found.missing:
        _keep_best(found, "kernel-zeroed", everywhere, _half_zeroed)
    return found.kept


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices below `count`, evenly spread, with the first and the last."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int))]


def _keep_best(found: _Found, kind: str, names: Sequence[str], change: Callable[[Array], Array]) -> None:
    """Keep, for each output that is missing, the kernel with the largest effect on it.

    Of those that were tried: when every output clearly notices one, no further kernel is tried.
    """
    best: dict[str, tuple[float, str]] = {}
    outputs: dict[str, dict[str, Array]] = {}
    for name, answer in _answers(found.subject, names, change):
        for output, size in found.effects(answer).items():
            if output in found.missing and np.isfinite(size) and size > best.get(output, (0.0, ""))[0]:
                best[output] = size, name
                outputs[name] = answer
        outputs = {each: outputs[each] for each in {place for _, place in best.values()}}
        needed = found.subject.needed
        if all(best.get(output, (0.0, ""))[0] >= CLEAR * needed[output] > 0 for output in found.missing):
            break
    for _, name in sorted(best.values(), reverse=True):
        found.kept[f"{kind} {name}"] = outputs[name]
    found.missing -= {output for output, (size, _) in best.items() if size >= found.subject.needed[output]}


def _answers(
    subject: Subject, names: Sequence[str], change: Callable[[Array], Array]
) -> Iterator[tuple[str, dict[str, Array]]]:
    for name in names:
        outputs = subject.answer(subject.inputs, {name: change(subject.kernels[name])})
        if all(np.isfinite(array).all() for array in outputs.values()):
            yield name, outputs


def _half_of_filters(kernel: Array) -> Array:
    """Every other filter scaled: a normalization over all filters would cancel the scale of them all."""
    changed = kernel.copy()
    _filters(changed)[..., ::2] *= kernel.dtype.type(SCALE)
    return changed


def _half_of_elements(kernel: Array) -> Array:
    """Every other element scaled, within each filter: weights that are standardized by filter cancel its scale."""
    changed = kernel.copy()
    places = np.indices(kernel.shape, sparse=True)
    changed[sum(places) % 2 == 0] *= kernel.dtype.type(SCALE)
    return changed


def _half_zeroed(kernel: Array) -> Array:
    changed = kernel.copy()
    _filters(changed)[..., ::2] = 0
    return changed


def _filters(kernel: Array) -> Array:
    """A view of `kernel` with its filters on the last axis: that axis, unless it has only one index."""
    longest = next((axis for axis in range(kernel.ndim - 1, -1, -1) if kernel.shape[axis] > 1), kernel.ndim - 1)
    return np.moveaxis(kernel, longest, -1)
