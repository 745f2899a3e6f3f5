"""The golden arrays of a model, measured on inputs that excite every output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from converter.core.data import Array, Arrays, Source
from converter.core.effort import Effort
from converter.core.errors import InputError
from converter.core.foreign import KerasModel
from converter.core.samples import InputOptions
from converter.pipeline.fitting import Sizes, fitting_sizes
from converter.pipeline.inputs import Draw, draws, other_sizes
from converter.proof.domains import effect
from converter.proof.measures import Measures
from converter.proof.verdict import unexcited
from converter.tracing.reference import Measured, Measuring, Plan, begin
from converter.tracing.signature import Signature

LONGEST = 15.0
"""Seconds after which no other inputs are drawn."""

SAMPLES = 2
"""Of inputs of another size."""


@dataclass(frozen=True)
class Settings:
    """How to measure: the user's `inputs`, the `effort`, the `seed`, and whether the ends of `layers` are needed.

    `announce` and `meanwhile` are those of a `Plan`.
    """

    inputs: InputOptions = field(default_factory=InputOptions)
    effort: Effort = field(default_factory=Effort)
    seed: int = 0
    layers: bool = True
    announce: Callable[[float], None] = lambda seconds: None
    meanwhile: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Found:
    """The measured arrays, the name of the inputs that were drawn, warnings, and what the proof measures in them."""

    measured: Measured
    drawn: str
    warnings: tuple[str, ...] = ()
    measures: Measures | None = None


@dataclass
class Begun:
    """The measurement of the first inputs that Keras can run has begun; `finish` may draw others."""

    author: KerasModel
    signature: Signature
    settings: Settings
    draws: Iterator[Draw]
    started: float
    refused: InputError | None = None
    draw: Draw | None = None
    measuring: Measuring | None = None

    def next(self) -> bool:
        """Begin with the next inputs that Keras can run; False if there are none."""
        for draw in self.draws:
            self.draw = draw
            settings = self.settings
            plan = Plan(settings.effort, settings.layers, settings.announce, self.others, settings.meanwhile)
            try:
                self.measuring = begin(self.author, self.signature, draw.inputs, effect, plan)
            except InputError as error:
                self.refused = self.refused or error
                continue
            return True
        return False

    @property
    def others(self) -> tuple[Arrays, ...]:
        """Inputs of other sizes, made of those that were drawn."""
        assert self.draw is not None
        inputs = self.draw.inputs
        return tuple(_cut(inputs, sizes) for sizes in other_sizes(self.signature.inputs, inputs))

    @property
    def late(self) -> bool:
        """Whether drawing others would take too long."""
        return time.perf_counter() - self.started > LONGEST

    def finish(self) -> Found:
        """The result for the first inputs that excite every output; if none do, for those with the fewest doubts.

        Raises InputError if Keras can run none of the inputs.
        """
        best: tuple[float, Found] | None = None
        while self.measuring is not None and self.draw is not None:
            doubts, measuring, self.measuring = np.inf, self.measuring, None
            try:
                found = measuring.finish()
            except InputError as error:
                self.refused = self.refused or error
            else:
                measures = _measures(found)
                doubts = _doubts(measures)
                if best is None or doubts < best[0]:
                    best = doubts, Found(found, self.draw.name, _warnings(found, self.others), measures)
            if not doubts or (best is not None and self.late) or not self.next():
                break
        if best is None:
            assert self.refused is not None
            raise self.refused
        return best[1]

    def close(self) -> None:
        """Stop a measurement that was not finished."""
        if self.measuring is not None:
            self.measuring.close()


def begin_golden(author: KerasModel, source: Source, signature: Signature, settings: Settings) -> Begun:
    """Begin to measure `author`, the model of `source` or its rewrite.

    Raises what `reference.measured` raises, if Keras can run none of the inputs, and UsageError or InputError for
    inputs of the user that do not fit.
    """
    started = time.perf_counter()

    def begun_with(sizes: Sizes | None) -> Begun:
        options = settings.inputs if sizes is None else replace(settings.inputs, shapes=sizes)
        inputs = draws(source, signature, options, settings.effort.most, settings.seed)
        begun = Begun(author, signature, settings, inputs, started)
        if begun.next():
            return begun
        assert begun.refused is not None
        if begun.draw is None or sizes is not None or settings.inputs.sizes or settings.inputs.file:
            raise begun.refused
        smaller = fitting_sizes(author, signature, begun.draw.inputs)
        if smaller is None:
            raise begun.refused
        return begun_with(smaller)

    return begun_with(None)


def golden_of(author: KerasModel, source: Source, signature: Signature, settings: Settings) -> Found:
    """The finished measurement that `begin_golden` begins."""
    return begin_golden(author, source, signature, settings).finish()


def _measures(found: Measured) -> Measures | None:
    """The tolerances, controls and distances of the samples; None if an output is not finite."""
    golden = found.golden
    if not all(np.isfinite(array).all() for array in golden.references.values()):
        return None
    return Measures.of(golden, found.by_output, found.precision)


def _doubts(measures: Measures | None) -> float:
    """How many outputs the samples do not excite; infinite if an output is not finite."""
    if measures is None:
        return np.inf
    return len(unexcited(measures.controls, measures.separation, measures.tolerances))


def _warnings(found: Measured, others: tuple[Arrays, ...]) -> tuple[str, ...]:
    if not others or found.golden.resized is not None:
        return ()
    size = " and ".join("x".join(map(str, array.shape[1:])) for array in found.golden.inputs.values())
    return (f"the sizes are dynamic, but Keras refused every other size that was tried: only {size} was compared",)


def _cut(inputs: Arrays, sizes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """The first samples of `inputs`, cut or repeated to other sizes."""
    result = {}
    for name, array in inputs.items():
        cut = array[:SAMPLES]
        for axis, size in enumerate(sizes[name], start=1):
            cut = np.take(cut, np.arange(size) % cut.shape[axis], axis=axis)
        result[name] = cut
    return result
