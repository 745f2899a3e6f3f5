"""How much each layer costs in int8, and which layers to keep in float because of it.

Each layer is computed in int8 alone, all others in float32. The most sensitive ones are then kept in float until the
whole file is within `GOAL` of float32, at most a quarter of the layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from converter.core.data import Arrays
from converter.core.foreign import Facts
from converter.quantize.faults import Observed
from converter.quantize.kernels import kernels_of
from converter.quantize.observe import RUNTIMES_OF
from converter.quantize.plan import plan
from converter.quantize.trial import error, outputs_of
from converter.quantize.work import INT8, Work

GOAL = 10 ** (-30 / 20)
"""Relative L2 of 30 dB"""

_SHARE = 4


def chosen(work: Work, side: Observed, inputs: Arrays, references: Arrays) -> tuple[tuple[str, ...], tuple[Facts, ...]]:
    """The layers to keep in float, and for every layer its error alone in int8, the most sensitive first.

    No layer is kept if the file is within `GOAL` without.
    """
    layers = list(dict.fromkeys(step.layer for step in side.steps if step.kernel is not None))
    every = {step.layer for step in side.steps}
    alone = _errors(work, side, [every - {layer} for layer in layers], inputs, references)
    order = sorted(zip(layers, alone, strict=True), key=lambda pair: -pair[1])
    measured = tuple({"layer": layer, "relative_l2": value} for layer, value in order)
    prefixes = [tuple(layer for layer, _ in order[:count]) for count in range(len(layers) // _SHARE + 1)]
    whole = _errors(work, side, prefixes, inputs, references)
    enough = next((prefix for prefix, value in zip(prefixes, whole, strict=True) if value <= GOAL), None)
    best = min(zip(whole, prefixes, strict=True), key=lambda pair: pair[0])[1]
    return (best if enough is None else enough), measured


def _errors(
    work: Work, side: Observed, keeps: Sequence[Collection[str]], inputs: Arrays, references: Arrays
) -> list[float]:
    """The worst relative L2 of an output, for each set of layers that stay in float."""
    artifact, specs = side.artifact, work.interface.by_output
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        files = []
        for place, keep in enumerate(keeps):
            folder = Path(scratch, str(place))
            folder.mkdir()
            files.append(folder / artifact.path)
            own = plan(side.steps, side.ranges, keep)
            kernels = kernels_of(side.steps, own, work.options.target)
            INT8[artifact.format].write(work.source(artifact), files[-1], side.steps, own, kernels)
        outputs = outputs_of(artifact, files, RUNTIMES_OF[artifact.format], inputs)
    return [max(each[0] for each in error(specs, references, found).values()) for found in outputs]
