"""Wrong int8 files for the controls: one scale doubled, one zero point shifted, ranges from noise.

The comparison has to tell their outputs from those of the float32 file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from converter.core.data import Array, Arrays, Artifact
from converter.quantize.kernels import kernels_of
from converter.quantize.observe import RUNTIMES_OF
from converter.quantize.plan import Operator, Plan, Range, plan
from converter.quantize.trial import outputs_of
from converter.quantize.weights import LARGEST, Weight
from converter.quantize.work import INT8, Work

SHIFT = 32
"""How far the zero point of a kernel is shifted"""

NOISE_CONTROL = "int8-calibrated-by-noise"


class Observed(Protocol):
    """A format with its operators and ranges."""

    @property
    def artifact(self) -> Artifact: ...
    @property
    def steps(self) -> Sequence[Operator]: ...
    @property
    def ranges(self) -> Mapping[str, Range]: ...


def controls(
    work: Work, side: Observed, own: Plan, inputs: Arrays, by_noise: Observed
) -> dict[str, Mapping[str, Array]]:
    """The outputs of each wrong file, by the control's name, on the samples that prove.

    The faults are in the kernel in the middle of the network. `by_noise` is `side` with ranges from noise.
    """
    kernels = kernels_of(side.steps, own, work.options.target)
    with_kernel = [side.steps[index] for index in sorted(own.int8) if side.steps[index].kernel is not None]
    middle = with_kernel[len(with_kernel) // 2]
    assert middle.kernel is not None
    name, weight = middle.kernel.name, kernels[middle.kernel.name]
    keep = {each.layer for each in own.kept if each.reason == "kept in float as requested"}
    noisy = plan(side.steps, by_noise.ranges, keep)
    wrong = {
        f"int8-scale-doubled {middle.layer}": (own, kernels | {name: doubled(weight)}),
        f"int8-zero-point-shifted {middle.layer}": (own, kernels | {name: shifted(weight)}),
        NOISE_CONTROL: (noisy, kernels_of(side.steps, noisy, work.options.target)),
    }
    artifact = side.artifact
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        files = []
        for place, (chosen, changed) in enumerate(wrong.values()):
            folder = Path(scratch, str(place))
            folder.mkdir()
            files.append(folder / artifact.path)
            INT8[artifact.format].write(work.source(artifact), files[-1], side.steps, chosen, changed)
        outputs = outputs_of(artifact, files, RUNTIMES_OF[artifact.format], inputs)
    return dict(zip(wrong, outputs, strict=True))


def doubled(weight: Weight) -> Weight:
    """The kernel with the scale of every channel doubled."""
    return replace(weight, scales=(2 * weight.scales).astype(np.float32))


def shifted(weight: Weight) -> Weight:
    """The kernel as if its zero point were `SHIFT` instead of zero."""
    values = np.clip(weight.values.astype(np.int16) + SHIFT, -LARGEST, LARGEST).astype(np.int8)
    return replace(weight, values=values)
