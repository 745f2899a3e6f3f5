"""Selects a few thousand elements of a comparison for drawing: for the scatter plot and the histogram of the report.

They are spread evenly over all samples and batch sizes, and the worst element of every sample is always included, so
that a failure is visible. The verdict does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from converter.core.data import Arrays, Golden, TensorSpec
from converter.core.parallel import mapped
from converter.core.results import OutputResult, Points
from converter.proof.domains import pair

LIMIT = 2000  # elements of one output of one row, plus at most one for every sample


def pick(
    golden: Golden, by_batch: Mapping[int, Arrays], specs: Mapping[str, TensorSpec], results: Iterable[OutputResult]
) -> dict[str, Points]:
    """Points for every output of `results` that has numbers; the others could not be compared element by element."""
    names = [each.output for each in results if each.relative_l2 is not None]
    found = mapped(
        lambda name: _pick(golden, [outputs[name] for outputs in by_batch.values()], specs[name]),
        names,
        sum(array.size for array in golden.references.values()),
    )
    return dict(zip(names, found, strict=True))


def _pick(golden: Golden, outputs: list[np.ndarray], spec: TensorSpec) -> Points:
    reference, exact = golden.references[spec.name], golden.exact.get(spec.name)
    share = max(1, LIMIT // (len(outputs) * len(reference)))
    wanted, got, noise = [], [], []
    for output in outputs:
        for sample, (one, other) in enumerate(zip(reference, output, strict=False)):
            x, y = (side.reshape(-1) for side in pair(one, other, spec.activation)[:2])
            even = np.linspace(0, x.size - 1, min(share, x.size)).astype(np.int64)
            places = np.union1d(even, np.argmax(np.abs(y - x)))
            wanted.append(x[places])
            got.append(y[places])
            if exact is not None and sample < len(exact):
                true, rounded = pair(exact[sample], one, spec.activation)[:2]
                noise.append(np.abs(rounded - true).reshape(-1)[places])
    return Points(np.concatenate(wanted), np.concatenate(got), np.concatenate(noise) if noise else None)
