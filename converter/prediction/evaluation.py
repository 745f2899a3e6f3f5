"""The accuracy of artifacts on labelled images, each compared with the reference image by image.

The reference is Keras where its model is given, else the first artifact in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from converter.core.foreign import Json
from converter.data.samples import Indices
from converter.prediction.classify import Probabilities
from converter.prediction.loading_proof import LoadingProof
from converter.prediction.statistics import Paired, confusion, paired, wilson

TOP = 5
SCHEMA_VERSION = 1
LISTED = 50
"""Flipped images that are listed"""


@dataclass(frozen=True)
class Flip:
    """An image that two classifiers put into different classes; a margin is the gap to the second class."""

    image: str
    label: str
    reference: str
    artifact: str
    reference_margin: float
    artifact_margin: float


@dataclass(frozen=True)
class Row:
    """One output of a classifier on all images.

    `interval` is that of the accuracy (Wilson, 95 %). `agreement` is the share of images with the reference's class,
    `flips` lists those that differ, at most `LISTED`, the reference's largest margin first. `largest_difference` is
    that of a probability. `paired` compares the accuracy with the reference's; it is None for the reference itself.
    """

    subject: str
    format: str
    precision: str
    runtime: str
    output: str
    images: int
    correct: int
    top1: float
    top5: float
    interval: tuple[float, float]
    confusion: tuple[tuple[int, ...], ...]
    agreement: float | None = None
    flipped: int = 0
    flips: tuple[Flip, ...] = ()
    largest_difference: float | None = None
    paired: Paired | None = None
    seconds: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class Task:
    """The images by name, the class of each, and the names of all classes; how much accuracy may be lost."""

    images: tuple[str, ...]
    labels: Indices
    names: tuple[str, ...]
    allowed: float
    confidence: float


@dataclass(frozen=True)
class Measured:
    """The probabilities by one classifier for one output, shape (images, classes), and where they come from."""

    subject: str
    format: str
    precision: str
    runtime: str
    output: str
    probabilities: Probabilities
    seconds: float | None = None
    size: int | None = None


def row(found: Measured, reference: Measured | None, task: Task) -> Row:
    """The row of `found`, compared with `reference`, the same output; None where it is the reference."""
    order = np.argsort(-found.probabilities, axis=1, kind="stable")
    predicted = order[:, 0].astype(np.int64)
    right = predicted == task.labels
    classes = found.probabilities.shape[1]
    common = Row(
        subject=found.subject,
        format=found.format,
        precision=found.precision,
        runtime=found.runtime,
        output=found.output,
        images=len(right),
        correct=int(right.sum()),
        top1=float(right.mean()),
        top5=float((order[:, :TOP] == task.labels[:, None]).any(1).mean()),
        interval=wilson(int(right.sum()), len(right)),
        confusion=tuple(map(tuple, confusion(task.labels, predicted, classes))),
        seconds=found.seconds,
        size=found.size,
    )
    if reference is None:
        return common
    own = np.argmax(reference.probabilities, axis=1)
    reference_right = own == task.labels
    differ = np.flatnonzero(own != predicted)
    flips = [_flip(int(index), found, reference, task) for index in differ]
    return Row(
        **{
            **vars(common),
            "agreement": float((own == predicted).mean()),
            "flipped": len(differ),
            "flips": tuple(sorted(flips, key=lambda each: -each.reference_margin)[:LISTED]),
            "largest_difference": float(np.abs(found.probabilities - reference.probabilities).max()),
            "paired": paired(
                int((reference_right & ~right).sum()),
                int((right & ~reference_right).sum()),
                len(right),
                task.allowed,
                task.confidence,
            ),
        }
    )


def _flip(index: int, found: Measured, reference: Measured, task: Task) -> Flip:
    def name(number: int) -> str:
        return task.names[number] if number < len(task.names) else str(number)

    def margin(values: Probabilities) -> float:
        first, second = np.sort(values)[::-1][:2]
        return float(first - second)

    ours, theirs = found.probabilities[index], reference.probabilities[index]
    return Flip(
        image=task.images[index],
        label=name(int(task.labels[index])),
        reference=name(int(theirs.argmax())),
        artifact=name(int(ours.argmax())),
        reference_margin=margin(theirs),
        artifact_margin=margin(ours),
    )


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. `reference` is what the artifacts are compared with; `rows` has the reference's first.

    `classes` are the labels. `exit_code` is 0 for "pass", 1 for "fail", 9 for "inconclusive".
    """

    directory: str
    data: str
    subset: str
    images: int
    classes: tuple[str, ...]
    reference: str
    rows: tuple[Row, ...]
    verdict: str
    reasons: tuple[str, ...]
    max_drop: float
    confidence: float
    loading: LoadingProof | None = None
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Json] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return {"pass": 0, "fail": 1, "inconclusive": 9}[self.verdict]


def judge(rows: tuple[Row, ...], loading: LoadingProof | None) -> tuple[str, tuple[str, ...]]:
    """The verdict and its reasons: fail where a drop is beyond what is allowed, inconclusive where none shows it."""
    compared = [each for each in rows if each.paired is not None]
    beyond = [
        f"{_where(each)}: the accuracy drops by more than allowed" for each in compared if _answer(each) == "beyond"
    ]
    doubt = [f"{_where(each)}: too few images to say" for each in compared if _answer(each) == "too few images"]
    if loading is not None and loading.verdict == "fail":
        beyond.append("the preprocessing differs from Keras's")
    if loading is not None and loading.verdict == "inconclusive":
        missed = [each.name for each in loading.controls if each.detected is False]
        doubt.append(f"the proof of the preprocessing says nothing: {', '.join(missed) or 'no control applies'}")
    if not compared:
        doubt.append("nothing was compared: the export has one artifact that can run here; give --keras MODEL")
    verdict = "fail" if beyond else "inconclusive" if doubt else "pass"
    return verdict, tuple(beyond + doubt)


def _answer(found: Row) -> str:
    return found.paired.answer if found.paired is not None else ""


def _where(found: Row) -> str:
    return f"{found.subject} in {found.runtime}, {found.output}"
