"""`predict`: the classes of images by an artifact in a runtime; needs TensorFlow for a SavedModel only."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from converter.core.clock import Clock, Progress
from converter.core.disk import writing
from converter.core.errors import InputError, OutputError, UsageError
from converter.pipeline.arguments import require_device
from converter.pipeline.checks import path_of, refuse_unknown
from converter.pipeline.options import PathText, PredictKeywords

if TYPE_CHECKING:
    from converter.data.preprocessing import Pixels
    from converter.prediction.classify import Classifier, Probabilities
    from converter.prediction.subject import Subject

GROUP = 64
"""Images that are decoded before the artifact runs"""
TOP = 5
OCCLUSION = "occlusion"


@dataclass(frozen=True)
class Ranked:
    """A class with its probability."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, the most probable first. `error` says why it could not be read; then there are none.

    `heatmap` is the picture of what the first class depends on.
    """

    image: str
    top: tuple[Ranked, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""
    heatmap: str = ""


@dataclass(frozen=True)
class PredictResult:
    """What an artifact said of some images. `seconds` is the time in the runtime, loading left out."""

    artifact: str
    runtime: str
    output: str
    classes: int
    preprocessing: dict[str, object]
    predictions: tuple[Prediction, ...]
    seconds: float
    heatmaps: str = ""
    schema: int = 1

    @property
    def failed(self) -> int:
        """The number of images that could not be read."""
        return sum(bool(each.error) for each in self.predictions)


@writing()
def predict(
    artifact: PathText,
    images: PathText | Sequence[PathText],
    *,
    progress: Progress | None = None,
    **keywords: Unpack[PredictKeywords],
) -> PredictResult:
    """The classes of `images` (files, folders, patterns) by `artifact`: a file, a SavedModel, or an export.

    Of an export the first artifact is taken that `runtime`, or any runtime, can run here. Keywords (`PredictKeywords`):
    `runtime`, `device`, `top`, `output` (the name of the model's output), `preprocessing` and `labels` instead of the
    artifact's own, `size` for a model of any size, and `heatmap`, a directory for pictures of what the first class
    depends on, by occlusion.

    An image that cannot be read among several has an `error`; the only one raises InputError. Raises InputError for a
    damaged artifact, UsageError where its preprocessing is not known, UnavailableError where nothing can run it.
    """
    from converter.data.samples import find_images
    from converter.prediction.subject import Wanted, subjects

    refuse_unknown(keywords, PredictKeywords, "predict")
    require_device(keywords.get("device", "cpu"))
    count = keywords.get("top", TOP)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"--top {count}: give a whole number of at least 1")
    texts = [images] if isinstance(images, str) or not isinstance(images, Sequence) else list(images)
    files = find_images([str(path_of(each, "images")) for each in texts])
    heatmap = keywords.get("heatmap")
    folder = None if heatmap is None else _folder(path_of(heatmap, "heatmap"))
    clock = Clock(progress)
    wanted = Wanted(
        keywords.get("runtime") or "", keywords.get("device", "cpu"),
        _text(keywords.get("preprocessing")), _text(keywords.get("labels")), keywords.get("output"),
        keywords.get("size"),
    )  # fmt: skip
    with clock("find"):
        subject = subjects(path_of(artifact, "artifact"), wanted)[0][0]
    loaded = Loaded(subject)
    found: list[Prediction] = []
    spent = 0.0
    with clock("predict"):
        for start in range(0, len(files), GROUP):
            clock.progress(f"predict {start:,}/{len(files):,}", None)
            rows, taken = _group(loaded, files[start : start + GROUP], count, folder)
            found += rows
            spent += taken
    if len(found) == 1 and found[0].error:
        raise InputError(found[0].error)
    return PredictResult(
        artifact=str(subject.path),
        runtime=subject.runtime,
        output=subject.output.name,
        classes=subject.classes,
        preprocessing=subject.preprocessing.to_json(),
        predictions=tuple(found),
        seconds=spent,
        heatmaps=OCCLUSION if folder is not None else "",
    )


class Loaded:
    """An artifact that is loaded when the first image for it was read."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @functools.cached_property
    def classifier(self) -> Classifier:
        """The artifact in its runtime."""
        from converter.prediction.classify import Classifier

        return Classifier(self.subject)


def _group(loaded: Loaded, files: Sequence[Path], count: int, folder: Path | None) -> tuple[list[Prediction], float]:
    """The predictions for some images, and the seconds in the runtime. Images of different sizes run one by one."""
    import numpy as np

    from converter.data.reading import pixels_of, read_picture
    from converter.prediction.classify import top

    subject = loaded.subject
    errors, pixels, notes = {}, {}, {}
    for path in files:
        try:
            picture = read_picture(path, subject.preprocessing.channels)
        except InputError as error:
            errors[path] = str(error)
            continue
        pixels[path] = pixels_of(picture.image, subject.size, subject.preprocessing.resize)
        notes[path] = picture.notes
    by_shape: dict[tuple[int, ...], list[Path]] = {}
    for path, array in pixels.items():
        by_shape.setdefault(array.shape, []).append(path)
    rows: dict[Path, Probabilities] = {}
    started = time.perf_counter()
    for group in by_shape.values():
        values = loaded.classifier.probabilities(
            subject.preprocessing.apply(np.stack([pixels[path] for path in group]))
        )
        rows |= dict(zip(group, values, strict=True))
    taken = time.perf_counter() - started
    found = []
    for path in files:
        if path in errors:
            found.append(Prediction(str(path), error=errors[path]))
            continue
        ranked = tuple(Ranked(each, subject.label(each), float(rows[path][each])) for each in top(rows[path], count))
        picture_file = (
            "" if folder is None else _heatmap(loaded.classifier, path, pixels[path], ranked[0].index, folder)
        )
        found.append(Prediction(str(path), ranked, notes[path], heatmap=picture_file))
    return found, taken


def _heatmap(classifier: Classifier, path: Path, pixels: Pixels, index: int, folder: Path) -> str:
    from converter.prediction.occlusion import occlusion_map, overlaid

    found = occlusion_map(pixels, classifier.subject.preprocessing, classifier.probabilities, index)
    target, number = folder / f"{path.stem}.heatmap.png", 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}.heatmap.png"
    try:
        overlaid(pixels, found).save(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error
    return str(target)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--heatmap {path}: cannot be created: {error.strerror or error}") from error
    return path


def _text(value: PathText | None) -> str | None:
    return None if value is None else str(value)
