"""The data of the verdict: tolerances, comparisons, controls, and the Report that contains them; the end of the line.

Frozen dataclasses only, built on `converter.core.data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converter.core.data import Array, Artifact, Verdict
from converter.core.errors import ChildError, ConversionError, InconclusiveError, ParityError
from converter.core.foreign import Json
from converter.core.notebook import summary_html


@dataclass(frozen=True)
class Part:
    """Some indices of one axis of an output (counted without the samples) and the limit of their error.

    `limit` is relative to `size`, the root mean square of the part over all samples, or, if `absolute`, is itself a
    root mean square error, for indices whose values are zero or only rounding error. `cells` is how many cells of one
    sample the part depends on.
    """

    axis: int
    indices: tuple[int, ...]
    limit: float
    cells: float
    size: float = 0.0
    absolute: bool = False

    @property
    def name(self) -> str:
        """The part in words."""
        first, last = self.indices[0], self.indices[-1]
        several = f"{len(self.indices)} indices from {first} to {last}"
        return f"axis {self.axis + 1}, {several if len(self.indices) > 1 else f'index {first}'}"


@dataclass(frozen=True)
class Tolerance:
    """The tolerance of one output: `value` limits relative L2, `value_max` limits max|d| / max|reference|.

    value = min(cap, max(floor, factor * noise)). `noise` and `noise_max` are measured between the reference and the
    exact (float64) outputs; they are None if the float64 model could not be built. `chosen` marks a value set by the
    user. `parts` limit the parts of the output that have a scale of their own; they are not written as JSON.
    """

    value: float
    value_max: float
    noise: float | None
    noise_max: float | None
    factor: float
    floor: float
    cap: float
    chosen: bool = False
    parts: tuple[Part, ...] = field(default=(), repr=False, compare=False, metadata={"json": False})


@dataclass(frozen=True)
class OutputResult:
    """The result of one output of one row, for its worst sample. Distances are float64, in the given `domain`.

    `domain` is "log-probability" (centred), "logit" or "value". `multiple` is relative L2 divided by the noise. If
    names, shapes, dtypes or finiteness differ, `passed` is False with a `reason` and the numbers are None.
    """

    output: str
    domain: str
    passed: bool
    reason: str = ""
    relative_l2: float | None = None
    relative_max: float | None = None
    max_abs: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    worst_index: tuple[int, ...] | None = None
    top1_agreement: float | None = None
    flips: int = 0
    underflows: int = 0
    multiple: float | None = None


@dataclass(frozen=True)
class Points:
    """Some elements of one output for drawing: float64 arrays of equal length, in the domain of the comparison.

    `noise` is |reference - exact| of those elements for which it was measured, or None if there are none.
    """

    reference: Array
    actual: Array
    noise: Array | None = None


@dataclass(frozen=True)
class Stage:
    """The error that step `name` adds to step `before`.

    `errors` has the relative L2 of the worst sample by output; None if the outputs cannot be compared.
    """

    name: str
    before: str
    errors: Mapping[str, float | None]


@dataclass(frozen=True)
class LayerError:
    """One Keras layer in an artifact: relative L2 of its activation (None: the artifact has no tensor for it).

    `covers` names all layers that are compared at this one tensor. `noise` is the noise of Keras in float32 at this
    layer (None: not measured).
    """

    name: str
    kind: str
    covers: tuple[str, ...]
    tensor: str
    error: float | None
    tolerance: float
    noise: float | None


@dataclass(frozen=True)
class Diagnosis:
    """The place where a failed artifact starts to deviate; `text` says it in one sentence.

    `layers` are in the order of the graph. `first` is the index of the first layer above its tolerance, `before` the
    largest error of the layers that it reads, `after` its own error. All three are None if no such layer was found;
    then `layers` may be empty. `where` is the runtime that the activations were read from, "" if none.
    """

    text: str
    layers: tuple[LayerError, ...] = ()
    first: int | None = None
    before: float | None = None
    after: float | None = None
    where: str = ""


@dataclass(frozen=True)
class Comparison:
    """One row of the report: an artifact in a runtime, or the rewritten Keras model, compared with the reference.

    Passes only if at least one output was compared and all outputs passed. `points`, by output name, are for drawing
    and never written to JSON. `diagnosis` is set for a failed ONNX or TFLite file. `error` says why the runtime gave no
    outputs: it crashed, ran out of time or refused the file.
    """

    subject: str  # "keras", "keras-rewritten", "onnx", "tflite", "saved-model"
    runtime: str
    device: str
    precision: str
    outputs: tuple[OutputResult, ...]
    samples: int = 0
    seconds: float | None = None
    size: int | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    points: Mapping[str, Points] = field(default_factory=dict, repr=False, compare=False, metadata={"json": False})
    diagnosis: Diagnosis | None = None
    error: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.outputs) and all(output.passed for output in self.outputs)


@dataclass(frozen=True)
class Control:
    """A negative control: outputs that are known to be wrong. `detected` is True if the comparison rejected them.

    `outputs` are the names of those that were rejected. If Keras itself answers like the reference on every output, the
    control is not `applicable`: it says nothing about the comparison.
    """

    name: str
    detected: bool
    relative_l2: float | None
    detail: str = ""
    outputs: tuple[str, ...] = ()
    applicable: bool = True


@dataclass(frozen=True)
class Report:
    """The verdict and all its evidence.

    `exit_code` is 0 for pass, 1 for fail, 9 for inconclusive, 6 for a pass with a format missing, and 8 for a fail only
    because a runtime crashed, ran out of time or refused its file.
    """

    model: str
    source: Mapping[str, Json]
    rows: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    tolerances: Mapping[str, Tolerance]  # by output name
    separation: Mapping[str, float]  # smallest distance between two samples of the reference, by output
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    directory: str = ""
    failures: tuple[str, ...] = ()  # requested formats that could not be written, with the reason
    stages: tuple[Stage, ...] = ()  # each compared with the step before it
    digest: str = ""  # of all files of the artifacts, `converter.core.files.digest_of`

    @property
    def exit_code(self) -> int:
        status = {"pass": 0, "fail": 1, "inconclusive": 9}[self.verdict]
        if status == 1 and not any(row.outputs and not row.passed for row in self.rows):
            return 8 if any(row.error for row in self.rows) else status
        return 6 if status == 0 and self.failures else status

    @property
    def not_run(self) -> tuple[str, ...]:
        """The files of the directory that no row is about: nothing is known of them."""
        proven = {(row.subject, row.precision) for row in self.rows}
        return tuple(each.path for each in self.artifacts if (each.format, each.precision) not in proven)

    def raise_for_verdict(self) -> None:
        """Return if the verdict is "pass" and no format is missing; otherwise raise the error of the exit code.

        Raises ParityError, InconclusiveError, ChildError if a runtime gave no outputs, or ConversionError if a
        requested format was not written.
        """
        kinds = {1: ParityError, 6: ConversionError, 8: ChildError, 9: InconclusiveError}
        if self.exit_code:
            causes = self.failures if self.exit_code == 6 else self.reasons
            first = "; ".join(causes[:1]) or self.verdict
            raise kinds[self.exit_code](f"{self.model}: {self.verdict}: {first}\n{self.directory}")

    def _repr_html_(self) -> str:
        """The verdict and its rows as an HTML table, for notebooks."""
        return summary_html(self)
