"""The error by stage: what each step from Keras in float64 to an artifact in a runtime adds to the step before it.

float64 -> Keras -> rewritten Keras -> each artifact in each runtime. onnxruntime with optimizations is compared with
onnxruntime without them, if both ran. Stages are only reported: the verdict depends on the comparison with Keras.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.core.data import Array, Arrays, Golden, TensorSpec, first_samples
from converter.core.parallel import mapped
from converter.core.results import Stage
from converter.core.text import place_of
from converter.proof.domains import apart

_UNOPTIMIZED = {"onnxruntime": "onnxruntime-noopt"}
"""The runtime without optimizations that is the step before a runtime."""


def stages(
    golden: Golden,
    rewritten: Arrays | None,
    outputs: Mapping[tuple[str, str, str], Arrays],
    specs: Mapping[str, TensorSpec],
) -> tuple[Stage, ...]:
    """One stage for each step that ran; `outputs` is keyed by (format, runtime, device).

    All arrays are (samples, ...) by output name. Without `golden.exact` the first stage is missing; without `rewritten`
    the artifacts are compared with Keras itself.
    """
    found = []
    before, reference = "keras", golden.references
    if golden.exact:
        count = len(next(iter(golden.exact.values())))
        first = first_samples(golden.references, count)
        found.append(Stage("keras", "keras in float64", _errors(golden.exact, first, specs)))
    if rewritten is not None:
        found.append(Stage("keras-rewritten", before, _errors(reference, rewritten, specs)))
        before, reference = "keras-rewritten", rewritten
    formats = list(dict.fromkeys(key[0] for key in outputs))
    order = sorted(outputs, key=lambda key: (key[2] != "cpu", formats.index(key[0]), key[1] in _UNOPTIMIZED))
    for key in order:
        kind, runtime, device = key
        plain = (kind, _UNOPTIMIZED.get(runtime, ""), device)
        previous, base = (_name(*plain), outputs[plain]) if plain in outputs else (before, reference)
        found.append(Stage(_name(*key), previous, _errors(base, outputs[key], specs)))
    return tuple(found)


def _name(kind: str, runtime: str, device: str) -> str:
    return f"{kind} in {place_of(runtime, device)}"


def _errors(before: Arrays, after: Arrays, specs: Mapping[str, TensorSpec]) -> dict[str, float | None]:
    """Relative L2 of the worst sample by output; None if the two cannot be compared."""
    names, size = list(specs), sum(array.size for array in before.values())
    found = mapped(lambda name: _error(before.get(name), after.get(name), specs[name]), names, size)
    return dict(zip(names, found, strict=True))


def _error(one: Array | None, other: Array | None, spec: TensorSpec) -> float | None:
    if one is None or other is None or one.shape != other.shape or not one.size:
        return None
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    return max(apart(a, b, spec.activation) for a, b in zip(one, other, strict=True))
