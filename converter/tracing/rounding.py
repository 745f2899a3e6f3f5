"""The rounding of a traced graph: its outputs in float32 at several batch sizes, and in float64.

The noise of the verdict is taken from the graph alone, not from Keras: an error of the trace would otherwise count as
noise. It is taken at every batch size, because some kernels round more at one than at another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.core.data import Array, Arrays, TensorSpec, Traced, first_samples
from converter.core.distance import relative_l2
from converter.core.effort import Effort
from converter.core.sketch import SAMPLES
from converter.tracing import layer_ends
from converter.tracing.layer_ends import LayerEnd
from converter.tracing.nodes import ordered
from converter.tracing.running import CannotRunError, Runner
from converter.tracing.signature import Signature

MIXED = 1e-9
"""Relative L2, in float64, above which a sample's output depends on the other samples of its batch."""

SLOW = 1.0
"""Seconds of the first inference above which only one sample is run alone.

Preparing the session counts there: 0.4 s of a network with recurrent layers, whose inference takes 4 ms, and which
would be compared on the fewest samples otherwise.
"""

SUSPECT = 1e-7
"""The same in float32, from which it is worth an inference in float64 to find out."""

ROUNDED = 2.0
"""By which factor the distances of a sample from float64, alone and in its batch, may differ if both are rounding."""

Effect = Callable[[TensorSpec, Array, Array], float]
"""The relative L2 of an output's worst sample from its reference, in the domain of the verdict."""


@dataclass(frozen=True)
class Graph:
    """A traced model that can be run in both precisions."""

    traced: Traced
    signature: Signature
    single: Runner
    double: Runner
    effect: Effect
    ends: tuple[LayerEnd, ...] = ()

    @property
    def kernels(self) -> dict[str, Array]:
        """The floating-point weights of two axes and more that the outputs depend on, in the order of the graph."""
        traced = self.traced
        order = ordered(traced.outputs, {node.name: node for node in traced.graph_def.node})
        weights = {name: traced.weights[name] for name in order if name in traced.weights}
        return {name: array for name, array in weights.items() if array.ndim > 1 and array.dtype.kind == "f"}


@dataclass(frozen=True)
class FirstRuns:
    """The float32 outputs of the first samples, in one batch and alone, and the `seconds` that one sample takes.

    `watched` are the values of `layer_ends.watch`.
    """

    base: Mapping[str, Array]
    alone: Mapping[str, Array]
    seconds: float
    watched: Sequence[Array]

    @classmethod
    def of(cls, single: Runner, inputs: Arrays) -> FirstRuns:
        """Run them in `single`, of float32. Raises CannotRunError if that is impossible."""
        first = first_samples(inputs, SAMPLES)
        base, watched = single(first, watch=True)
        if any(array.shape[:1] != (len(next(iter(first.values()))),) for array in base.values()):
            raise CannotRunError("the first axis of an output is not the batch")
        alone, seconds = _alone(single, first)
        return cls(base, alone, seconds, watched)


@dataclass(frozen=True)
class Rounding:
    """The outputs of the first samples: `exact` in float64, empty where TensorFlow cannot; the rest is in float32.

    `base` is the first samples in batches of several, `alone` the first two in batches of their own (empty for a fixed
    batch size), `summed` those of `exact` with long sums taken one after another (empty if there are none). If the
    model `mixes` samples, `base` and `exact` are all samples in one batch, and `alone` and `summed` are empty.
    """

    base: Mapping[str, Array]
    alone: Mapping[str, Array]
    summed: Mapping[str, Array]
    exact: Mapping[str, Array]
    mixes: bool = False
    watched: tuple[Sequence[Array], Sequence[Array]] = field(default=((), ()), repr=False)

    @classmethod
    def of(cls, graph: Graph, inputs: Arrays, effort: Effort, runs: FirstRuns) -> Rounding:
        """Measure the rounding of `inputs`, the samples to compare; `runs` are those of the first ones."""
        samples, cells = len(next(iter(inputs.values()))), min(array[0].size for array in runs.base.values())
        count = effort.exact(runs.seconds, cells, samples)
        exact, doubles = _exact(graph, first_samples(inputs, count))
        watched = runs.watched, doubles
        if _mixes(graph, inputs, runs, exact):
            base, exact = graph.single(inputs)[0], in_float64(graph.double(inputs)[0])
            return cls(base, {}, {}, exact, True, watched)
        base = first_samples(runs.base, min(count, SAMPLES))
        alone = first_samples(runs.alone, min(count, SAMPLES))
        summed = graph.single.summed(first_samples(inputs, count))
        if exact and count > SAMPLES:
            more = {name: array[SAMPLES:count] for name, array in inputs.items()}
            base = _joined(base, graph.single(more)[0])
        return cls(base, alone, summed, exact, False, watched)

    def ends(self, ends: tuple[LayerEnd, ...]) -> tuple[LayerEnd, ...]:
        """`ends` with what was measured at them."""
        singles, doubles = self.watched
        return layer_ends.measured(ends, singles, doubles) if singles else ()

    def worst(self, graph: Graph, inputs: Arrays, heavy: bool) -> dict[str, Array]:
        """For each sample and output, the float32 output that is farthest from float64; empty without float64.

        `inputs` are all samples, which are run as one batch here unless the model is `heavy`.
        """
        if not self.exact:
            return {}
        found: list[Arrays] = [self.base]
        known, count = len(next(iter(self.base.values()))), len(next(iter(inputs.values())))
        found += [_completed(each, self.base) for each in (self.alone, self.summed) if each]
        if count > known and not heavy and not graph.signature.inputs[0].shape[0]:
            found.append(first_samples(graph.single(inputs)[0], known))
        specs = graph.traced.outputs.values()
        return {spec.name: _farthest(graph.effect, spec, found, self.exact[spec.name]) for spec in specs}


def in_float64(outputs: Arrays) -> dict[str, Array]:
    """Integers and booleans too, so that every output has its exact counterpart."""
    return {name: array.astype(np.float64, copy=False) for name, array in outputs.items()}


def completed(graph: Graph, inputs: Arrays, exact: Arrays) -> Arrays:
    """The float64 outputs of all samples of `inputs`, of which `exact` are the first."""
    known = len(next(iter(exact.values())))
    rest = {name: array[known:] for name, array in inputs.items()}
    return _joined(exact, in_float64(graph.double(rest)[0])) if len(next(iter(rest.values()))) else exact


def _completed(some: Arrays, whole: Arrays) -> dict[str, Array]:
    """`some` samples, followed by the further ones of `whole`."""
    return {name: np.concatenate([array, whole[name][len(array) :]]) for name, array in some.items()}


def _joined(one: Arrays, other: Arrays) -> dict[str, Array]:
    return {name: np.concatenate([array, other[name]]) for name, array in one.items()}


def _alone(single: Runner, first: Arrays) -> tuple[dict[str, Array], float]:
    """The outputs of samples in batches of their own, {} for a fixed batch size; and the seconds of one sample."""
    fixed = single.signature.inputs[0].shape[0]
    starts = [0, 0] if fixed else range(len(next(iter(first.values()))))
    each: list[dict[str, Array]] = []
    taken: list[float] = []
    for start in starts:
        if taken and taken[0] > SLOW:
            break
        one = {name: array[start : start + (fixed or 1)] for name, array in first.items()}
        began = time.perf_counter()
        each.append(single(one)[0])
        taken.append(time.perf_counter() - began)  # of the first run, much may be spent on preparing the session
    alone = {} if fixed else {name: np.concatenate([piece[name] for piece in each]) for name in each[0]}
    return alone, min(taken) / (fixed or 1)


def _exact(graph: Graph, first: Arrays) -> tuple[dict[str, Array], list[Array]]:
    """The float64 outputs, and the values of `layer_ends.watch`; both empty where TensorFlow has no kernel."""
    try:
        outputs, watched = graph.double(first, watch=True)
    except CannotRunError:
        return {}, []
    return in_float64(outputs), watched


def _mixes(graph: Graph, inputs: Arrays, runs: FirstRuns, exact: Arrays) -> bool:
    """Whether a sample's output depends on the others of its batch: suspected in float32, decided in float64.

    Where a sample is alone about as far from float64 as it is in its batch, the two differ by rounding.
    """
    apart = max((relative_l2(array, runs.base[name][: len(array)]) for name, array in runs.alone.items()), default=0.0)
    if apart <= SUSPECT or not exact:
        return False
    if all(_explained(array, runs.base[name], exact[name]) for name, array in runs.alone.items()):
        return False
    together, alone = exact, exact
    if len(next(iter(exact.values()))) < SAMPLES:
        together = in_float64(graph.double(first_samples(inputs, SAMPLES))[0])
    else:
        alone = in_float64(graph.double(first_samples(inputs, 1))[0])
    return any(relative_l2(alone[name][:1], array[:1]) > MIXED for name, array in together.items())


def _explained(alone: Array, base: Array, exact: Array) -> bool:
    """Whether each sample of an output is about as far from float64 alone as in its batch: by `ROUNDED` times at most.

    Float64 is that of the batch or that of the sample alone: whichever it is, one of the two is far from it if the
    samples of a batch are mixed.
    """
    for one, other, true in zip(alone, base, exact, strict=False):
        distances = relative_l2(one, true), relative_l2(other, true)
        if not max(distances) <= ROUNDED * min(distances):
            return False
    return True


def _farthest(effect: Effect, spec: TensorSpec, candidates: Sequence[Arrays], exact: Array) -> Array:
    """For each sample, the candidate that is farthest from float64."""
    arrays = [each[spec.name] for each in candidates]
    if len(arrays) == 1 or arrays[0].dtype.kind != "f":
        return arrays[0]
    result = arrays[0].copy()
    for sample in range(len(result)):
        part = slice(sample, sample + 1)
        errors = [effect(spec, exact[part], each[part]) for each in arrays]
        result[part] = arrays[int(np.argmax(errors))][part]
    return result
