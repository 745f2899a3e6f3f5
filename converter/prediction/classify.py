"""A loaded artifact as a classifier: inputs to probabilities, in batches, whatever batch sizes and layouts it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from converter.core.data import Array, Prepared
from converter.core.errors import InputError
from converter.data.preprocessing import Values
from converter.prediction.quiet import muted
from converter.prediction.subject import Subject
from converter.proof.child import as_declared, as_keras, in_batches
from converter.runtimes import RUNTIMES
from converter.runtimes.shared.onnx_records import require_own_weights

Probabilities = npt.NDArray[np.float64]
CLOSE = 1e-3
BATCH = 16
_RUNS = 5


class Classifier:
    """A `Subject` loaded in its runtime. Raises what the runtime raises for a file that it refuses."""

    def __init__(self, subject: Subject) -> None:
        if subject.artifact.format == "onnx":
            require_own_weights(subject.path)
        self.subject = subject
        self._ran = False
        runtime = RUNTIMES[subject.runtime]
        with muted():
            self.prepared: Prepared = runtime.prepare(subject.path, subject.artifact, subject.device)

    def outputs(self, inputs: Values) -> dict[str, Array]:
        """What the artifact returns for `inputs` (images, height, width, channels), by name; the images are first."""
        spec = self.subject.artifact.inputs[0]
        given = np.ascontiguousarray(as_declared(inputs, spec)).astype(spec.dtype, copy=False)
        batch = spec.shape[0] or min(len(given), BATCH)
        with muted(not self._ran):  # some libraries finish loading in the first run
            found = in_batches(self.prepared.run, {spec.name: given}, batch)
        self._ran = True
        return {name: as_keras(array, name, self.subject.artifact, {}) for name, array in found.items()}

    def probabilities(self, inputs: Values) -> Probabilities:
        """The probability of each class for each image: shape (images, classes)."""
        return self.of(self.outputs(inputs), len(inputs))

    def of(self, outputs: dict[str, Array], count: int) -> Probabilities:
        """The probabilities in `outputs` of `count` images. Raises InputError for outputs that cannot be classes."""
        output = self.subject.output
        return probabilities(outputs[output.name], output.activation, count, f"{self.subject.title}: {output.name}")

    def seconds(self, one: Values) -> float:
        """The median time for one image, shape (1, height, width, channels), after a first run that does not count."""
        spec = self.subject.artifact.inputs[0]
        count = spec.shape[0] or 1
        given = np.ascontiguousarray(np.repeat(as_declared(one, spec), count, 0)).astype(spec.dtype, copy=False)
        taken = []
        for _ in range(_RUNS + 1):
            started = time.perf_counter()
            self.prepared.run({spec.name: given})
            taken.append(time.perf_counter() - started)
        return statistics.median(taken[1:])


def probabilities(values: Array, activation: str, count: int, where: str) -> Probabilities:
    """`values` as probabilities: as they are where they sum to one or come from sigmoids, else their softmax.

    Raises InputError where they are not a row of finite numbers for each of `count` images.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 2 or len(found) != count:
        raise InputError(f"{where}: has shape {list(found.shape)} for {count} images, not a number for each class")
    if not np.isfinite(found).all():
        raise InputError(f"{where}: NaN or infinity; verify the artifact")
    sums = bool(found.min() >= 0 and np.allclose(found.sum(1), 1.0, atol=CLOSE))
    if activation in ("softmax", "sigmoid") or sums:
        return found
    shifted = np.exp(found - found.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float64)


def top(row: npt.NDArray[np.float64], count: int) -> list[int]:
    """The classes with the largest probabilities, the largest first; of equal ones the first."""
    return [int(each) for each in np.argsort(-row, kind="stable")[:count]]


def stacked(images: Sequence[Values]) -> Values:
    """Images of one size as one array."""
    return np.stack(images)
