"""The golden arrays of a model, measured on inputs that excite every output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from converter.core.data import Array, Arrays, Source
from converter.core.errors import InputError
from converter.core.foreign import KerasModel
from converter.core.samples import InputOptions
from converter.pipeline.inputs import draws, other_sizes
from converter.proof.comparison import separation
from converter.proof.controls import check_controls
from converter.proof.domains import effect
from converter.proof.tolerance import tolerances
from converter.proof.verdict import unexcited
from converter.tracing.effort import Effort
from converter.tracing.reference import Measured, Plan, measured
from converter.tracing.signature import Signature

LONGEST = 15.0
"""Seconds after which no other inputs are drawn."""

SAMPLES = 2
"""Of inputs of another size."""


@dataclass(frozen=True)
class Settings:
    """How to measure: the user's `inputs`, the `effort`, the `seed`, and whether the ends of `layers` are needed."""

    inputs: InputOptions = field(default_factory=InputOptions)
    effort: Effort = field(default_factory=Effort)
    seed: int = 0
    layers: bool = True
    announce: Callable[[float], None] = lambda seconds: None


@dataclass(frozen=True)
class Found:
    """The measured arrays, the name of the inputs that were drawn, and warnings."""

    measured: Measured
    drawn: str
    warnings: tuple[str, ...] = ()


def golden_of(author: KerasModel, source: Source, signature: Signature, settings: Settings) -> Found:
    """Measure `author`, the model of `source` or its rewrite, on the first inputs that excite all its outputs.

    If none do, those that leave the fewest outputs in doubt. Raises what `reference.measured` raises, if Keras can run
    none of the inputs, and UsageError or InputError for inputs of the user that do not fit.
    """
    started = time.perf_counter()
    best: tuple[float, Found] | None = None
    refused: InputError | None = None
    for draw in draws(source, signature, settings.inputs, settings.effort.most, settings.seed):
        others = tuple(_cut(draw.inputs, sizes) for sizes in other_sizes(signature.inputs, draw.inputs))
        plan = Plan(settings.effort, settings.layers, settings.announce, others)
        try:
            found = measured(author, signature, draw.inputs, effect, plan)
        except InputError as error:
            refused = refused or error
            continue
        doubts = _doubts(found)
        if best is None or doubts < best[0]:
            best = doubts, Found(found, draw.name, _warnings(found, others))
        if not doubts or time.perf_counter() - started > LONGEST:
            break
    if best is None:
        assert refused is not None
        raise refused
    return best[1]


def _doubts(found: Measured) -> float:
    """How many outputs the samples do not excite; infinite if an output is not finite."""
    golden, specs = found.golden, found.by_output
    if not all(np.isfinite(array).all() for array in golden.references.values()):
        return np.inf
    bounds = tolerances(golden, specs, found.precision)
    return len(unexcited(check_controls(golden, specs, bounds), separation(golden.references, specs), bounds))


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
