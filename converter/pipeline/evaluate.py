"""`evaluate`: the accuracy of every artifact of an export and of Keras on labelled images, compared image by image."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from converter.bundle.directory import locate
from converter.bundle.manifest import EVALUATION, PAGE, Manifest, read_manifest
from converter.core import machine
from converter.core.clock import Clock, Progress
from converter.core.disk import writing
from converter.core.errors import OutputError, UsageError
from converter.core.foreign import Json
from converter.core.jsonable import dumps
from converter.data.feed import Feed
from converter.data.samples import load_samples, match_labels
from converter.pipeline.arguments import require_device
from converter.pipeline.checks import names_in, path_of, refuse_unknown, require_choice
from converter.pipeline.evaluation_parts import SUBSETS, chosen, refuse_calibrating
from converter.pipeline.options import EvaluateKeywords, PathText
from converter.prediction.classify import Classifier, Probabilities, probabilities
from converter.prediction.evaluation import Evaluation, Measured, Row, Task, judge, row
from converter.prediction.loading_proof import LoadingProof
from converter.prediction.subject import Subject, Wanted, subjects
from converter.report.evaluation import with_section

if TYPE_CHECKING:
    from converter.pipeline.keras_side import KerasSide

GROUP = 32
KERAS = "keras"


@dataclass(frozen=True)
class Setting:
    """What is evaluated: loaded classifiers, the images as inputs, and Keras where its model was given."""

    classifiers: tuple[Classifier, ...]
    feed: Feed
    keras: KerasSide | None
    clock: Clock


@writing()
def evaluate(
    directory: PathText, data: PathText, *, progress: Progress | None = None, **keywords: Unpack[EvaluateKeywords]
) -> Evaluation:
    """Classify the labelled images `data` by every artifact of the export `directory`, and compare with the reference.

    The reference is the Keras model `keras` (any source) of the export, else its first artifact in float32. Keywords
    (`EvaluateKeywords`): `runtimes`, by default the first that can run each artifact; `subset` of the images, by
    default the test images if the model was trained on these data, else all; `limit`, the number of images; `max_drop`,
    the points of accuracy that may be lost, 1 by default; `confidence`, in percent; `preprocessing`, `labels`, `size`,
    `device`. evaluation.json and a section of report.html are written into the directory.

    Raises InputError and UsageError for data that do not fit, UnavailableError where nothing can run, OutputError where
    the directory cannot be written.
    """
    refuse_unknown(keywords, EvaluateKeywords, "evaluate")
    path = path_of(directory, "directory")
    allowed, confidence = _shares(keywords)
    require_device(keywords.get("device", "cpu"))
    subset = keywords.get("subset")
    if subset is not None:
        require_choice("subset", subset, SUBSETS)
    clock = Clock(progress)
    with clock("read images"):
        samples = load_samples(str(path_of(data, "data")))
        home, _ = locate(path)
        manifest = read_manifest(home)
        part, indices, notes = chosen(samples, manifest.source, subset, keywords.get("limit"))
    with clock("load"):
        found, left_out = _subjects(path, keywords)
    first = found[0]
    labels = match_labels(samples, first.labels)[indices]
    if first.size is None:
        raise UsageError(f"{path}: the model takes images of any size\ngive --size HxW")
    if not first.labels and len(samples.classes) > first.classes:
        raise UsageError(f"--data {samples.title}: {len(samples.classes)} classes, the model has {first.classes}")
    feed = Feed(samples, indices, labels, first.preprocessing, first.size)
    with clock("load keras"):
        keras = _keras(keywords, manifest)
    names = first.labels or samples.classes
    task = Task(tuple(samples.names[index] for index in indices), labels, names, allowed, confidence)
    with clock("classify"):
        feed.batch([0])  # a damaged image is found before the artifacts are loaded
        refuse_calibrating(found, feed)
        classifiers = tuple(Classifier(each) for each in found)
        setting = Setting(classifiers, feed, keras, clock)
        rows, reference = _rows(setting, task)
    with clock("prove the preprocessing"):
        loading = keras.proof(classifiers, feed, rows[0]) if keras is not None else None
    verdict, reasons = judge(rows, loading)
    result = Evaluation(
        directory=str(home),
        data=samples.title,
        subset=part,
        images=len(indices),
        classes=tuple(names),
        reference=reference,
        rows=rows,
        verdict=verdict,
        reasons=reasons,
        max_drop=allowed,
        confidence=confidence,
        loading=loading,
        notes=(*samples.notes, *notes, *(f"left out: {each}" for each in left_out), *_about_keras(keras, loading)),
        environment=machine.describe(),
    )
    _write(home, result)
    return result


def _about_keras(keras: KerasSide | None, loading: LoadingProof | None) -> tuple[str, ...]:
    if keras is None:
        return ("not compared with Keras itself; give --keras MODEL",)
    return loading.notes if loading is not None else ()


def _shares(keywords: Mapping[str, Json]) -> tuple[float, float]:
    """The allowed drop and the confidence, as shares. Raises UsageError."""
    found = keywords.get("max_drop", 1.0), keywords.get("confidence", 95.0)
    for name, value, low, high in (("max-drop", found[0], 0.0, 100.0), ("confidence", found[1], 50.0, 100.0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
            raise UsageError(f"--{name} {value}: give a number above {low:g} and below {high:g}")
    return found[0] / 100.0, found[1] / 100.0


def _subjects(path: Path, keywords: EvaluateKeywords) -> tuple[list[Subject], list[str]]:
    """Every artifact in every runtime that was asked for, and why others are left out."""

    def text(name: str) -> str | None:
        value = keywords.get(name)
        return None if value is None else str(value)

    wanted = Wanted(
        device=keywords.get("device", "cpu"), preprocessing=text("preprocessing"), labels=text("labels"),
        size=keywords.get("size"),
    )  # fmt: skip
    runtimes = names_in(keywords.get("runtimes", ()), "runtimes")
    parts = [subjects(path, replace(wanted, runtime=name)) for name in runtimes or ("",)]
    found = [each for one, _ in parts for each in one]
    reasons = [reason for _, several in parts for reason in several if not runtimes or "does not read" not in reason]
    precision = {"float32": 0, "float16": 1}
    return sorted(found, key=lambda each: precision.get(each.artifact.precision, 2)), reasons


def _keras(keywords: EvaluateKeywords, manifest: Manifest) -> KerasSide | None:
    model = keywords.get("keras")
    if model is None:
        return None
    from converter.pipeline.keras_side import KerasSide

    return KerasSide.load(model, manifest)


def _rows(setting: Setting, task: Task) -> tuple[tuple[Row, ...], str]:
    """A row for each classifier and each of its outputs, the reference's first; and the name of the reference."""
    measured = _measured(setting)
    reference = {each.output: each for each in measured if each.subject == measured[0].subject}
    first = {key: each for key, each in reference.items() if each.runtime == measured[0].runtime}
    rows = [row(each, None if first.get(each.output) is each else first.get(each.output), task) for each in measured]
    title = measured[0].subject if measured[0].subject == KERAS else f"{measured[0].subject} in {measured[0].runtime}"
    return tuple(rows), title


def _measured(setting: Setting) -> list[Measured]:
    """The probabilities of all images by every classifier, Keras first, for each output with the same classes."""
    feed = setting.feed
    found: dict[tuple[int, str], list[Probabilities]] = {}
    outputs = [_outputs(each.subject) for each in setting.classifiers]
    for start in range(0, len(feed), GROUP):
        setting.clock.progress(f"classify {start:,}/{len(feed):,}", None)
        inputs = feed.batch(range(start, min(start + GROUP, len(feed))))
        if setting.keras is not None:
            returned = setting.keras.outputs(inputs)
            for name, activation in outputs[0].items():
                part = probabilities(returned[name], activation, len(inputs), f"keras: {name}")
                found.setdefault((-1, name), []).append(part)
        for number, classifier in enumerate(setting.classifiers):
            returned = classifier.outputs(inputs)
            for name, activation in outputs[number].items():
                where = f"{classifier.subject.title}: {name}"
                found.setdefault((number, name), []).append(
                    probabilities(returned[name], activation, len(inputs), where)
                )
    times = [each.seconds(feed.batch([0])) for each in setting.classifiers]
    result = []
    for (number, name), parts in sorted(found.items(), key=lambda each: each[0][0]):
        joined = np.concatenate(parts)
        if number < 0:
            result.append(Measured(KERAS, KERAS, "float32", KERAS, name, joined))
            continue
        subject = setting.classifiers[number].subject
        artifact = subject.artifact
        size = artifact.size or None
        result.append(
            Measured(
                artifact.path, artifact.format, artifact.precision, subject.runtime, name, joined, times[number], size
            )
        )
    return result


def _outputs(subject: Subject) -> dict[str, str]:
    """The activation of every output with the same classes, by name; the first one is that of the accuracy."""
    same = [each for each in subject.artifact.outputs if each.shape[1:] == subject.output.shape[1:]]
    return {each.name: each.activation for each in same}


def _write(directory: Path, result: Evaluation) -> None:
    """Write evaluation.json and the section of report.html into an export."""
    try:
        (directory / EVALUATION).write_text(dumps({**vars(result), "exit_code": result.exit_code}), encoding="ascii")
        page = directory / PAGE
        with suppress(FileNotFoundError):
            page.write_text(with_section(page.read_text(encoding="utf-8"), result), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror or error}") from error
