"""The data of the verdict: tolerances, comparisons, controls and the Report they make up; the end of the line.

Frozen dataclasses only, as in `converter.core.data`, on which alone they are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converter.core.data import Array, Artifact, Verdict
from converter.core.errors import ConversionError, InconclusiveError, ParityError
from converter.core.foreign import Json
from converter.core.notebook import summary_html


@dataclass(frozen=True)
class Tolerance:
    """The gate of one output: `value` bounds relative L2, `value_max` bounds max|d| / max|reference|.

    value = min(cap, max(floor, factor * noise)), with `noise` (and `noise_max`) measured between the reference and the
    same model in float64, and None where that could not be built. `chosen` marks a value the user gave.
    """

    value: float
    value_max: float
    noise: float | None
    noise_max: float | None
    factor: float
    floor: float
    cap: float
    chosen: bool = False


@dataclass(frozen=True)
class OutputResult:
    """One output of one row, the worst sample of it. Distances are float64, in the stated `domain`.

    `domain` is "log-probability" (centred), "logit" or "value". `multiple` is relative L2 over the noise.
    `passed` is False with a `reason` where names, shapes, dtypes or finiteness already differ; the numbers are then
    None.
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
    """Some cells of one output, float64 and of one length, in the domain of the comparison; for drawing only.

    `noise` is Keras in float32 against float64 in the same cells, |difference|, or None where it was not measured.
    """

    reference: Array
    actual: Array
    noise: Array | None = None


@dataclass(frozen=True)
class Stage:
    """What the step `name` adds to the step `before`: the worst sample's relative L2 by output (None: no number)."""

    name: str
    before: str
    errors: Mapping[str, float | None]


@dataclass(frozen=True)
class LayerError:
    """One Keras layer in an artifact: relative L2 of its activation (None: the artifact has it no more).

    `covers` names all layers that are compared in this one place; `noise` is Keras's own in float32 (None: unknown).
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
    """Where a failed artifact goes wrong, `text` in one sentence.

    `layers` in the graph's order; `first` is the place of the first one beyond its tolerance, with the largest error
    `before` it (of the layers that it reads) and the error `after` it. None, and perhaps no layers: none was found.
    `where` is what the activations were read in, "" where none was.
    """

    text: str
    layers: tuple[LayerError, ...] = ()
    first: int | None = None
    before: float | None = None
    after: float | None = None
    where: str = ""


@dataclass(frozen=True)
class Comparison:
    """One row of the report: a subject against the reference. Passed only if something was compared and all passed.

    `points`, by output name, are no part of the result and never written as JSON. `diagnosis` is that of a failed ONNX
    or TFLite file.
    """

    subject: str  # "keras-rewritten", "onnx", "tflite", "saved-model"
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

    @property
    def passed(self) -> bool:
        return bool(self.outputs) and all(output.passed for output in self.outputs)


@dataclass(frozen=True)
class Control:
    """A negative control: something known to be wrong, fed to the comparison. `detected` means that it failed there."""

    name: str
    detected: bool
    relative_l2: float | None
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """The verdict with everything it rests on. `exit_code`: 0 passed, 1 failed, 9 inconclusive, 6 a format missing."""

    model: str
    source: Mapping[str, Json]
    rows: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    tolerances: Mapping[str, Tolerance]  # by output name
    separation: Mapping[str, float]  # smallest distance of two samples' references, by output name
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    directory: str = ""
    failures: tuple[str, ...] = ()  # formats asked for that could not be written, with the reason
    stages: tuple[Stage, ...] = ()  # each against its predecessor

    @property
    def exit_code(self) -> int:
        status = {"pass": 0, "fail": 1, "inconclusive": 9}[self.verdict]
        return 6 if status == 0 and self.failures else status

    def raise_for_verdict(self) -> None:
        """Return where the verdict is "pass" and no format is missing; otherwise raise what the exit code stands for.

        Raises ParityError, InconclusiveError, or ConversionError where a format that was asked for was not written.
        """
        kinds = {1: ParityError, 6: ConversionError, 9: InconclusiveError}
        if self.exit_code:
            causes = self.reasons if self.exit_code in (1, 9) else self.failures
            first = "; ".join(causes[:1]) or self.verdict
            raise kinds[self.exit_code](f"{self.model}: {self.verdict}: {first}\n{self.directory}")

    def _repr_html_(self) -> str:
        """The verdict and its rows as an HTML table, for notebooks."""
        return summary_html(self)
