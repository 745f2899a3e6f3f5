"""`train`: fits a model to labelled images and saves it with what belongs to it: preprocessing, labels, history."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from converter.core import machine
from converter.core.clock import Clock, Progress
from converter.core.disk import writing
from converter.core.errors import OutputError
from converter.core.foreign import Facts
from converter.core.jsonable import dumps
from converter.data.about import SUFFIX, About, write_beside
from converter.pipeline.checks import path_of, refuse_unknown, require_flag
from converter.pipeline.options import PathText, TrainKeywords
from converter.pipeline.training_plan import Asked, Parts, Ready, asked, feeds, parts_of, ready
from converter.report.curves import curves_svg
from converter.training.store import Progressed, Store

MODEL, HISTORY, CURVES, LABELS = "model.keras", "history.json", "curves.svg", "labels.txt"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TrainResult:
    """A trained model: its file, the record of each epoch, the index of the best one, and the accuracy on test images.

    `stopped` is "finished", or "early" where the validation loss no longer fell.
    """

    model: str
    path: str
    directory: str
    data: str
    classes: tuple[str, ...]
    parameters: int
    images: dict[str, int]
    epochs: tuple[Facts, ...]
    best: int
    test_accuracy: float
    test_loss: float
    stopped: str
    seconds: float
    notes: tuple[str, ...] = ()


@writing()
def train(
    model: str, data: PathText, *, progress: Progress | None = None, **keywords: Unpack[TrainKeywords]
) -> TrainResult:
    """Train the source `model` on `data`, and save it: "mnist", "digits", or a folder of class folders.

    Keywords (`TrainKeywords`): the options of a source, and those of the training; `converter.training.options`
    explains them. The directory `output`, by default trained/NAME, gets model.keras with the weights of the epoch of
    the lowest validation loss, model.about.json with preprocessing and labels, which an export takes from there,
    history.json, curves.svg and labels.txt. After an interruption, `resume` goes on after the last whole epoch.

    Raises UsageError for wrong options and where training diverges, InputError for images that cannot be used,
    OutputError where the directory holds another training (without `force`) or cannot be written.
    """
    refuse_unknown(keywords, TrainKeywords, "train")
    wanted = asked(keywords)
    resume, force = keywords.get("resume", False), keywords.get("force", False)
    require_flag("resume", resume)
    require_flag("force", force)
    given = keywords.get("output")
    text = str(path_of(data, "data"))
    clock = Clock(progress)
    parts = parts_of(text, wanted, clock)
    with clock("load"):
        net = ready(model, wanted, len(parts.samples.classes))
    directory = Path("trained", net.name) if given is None else path_of(given, "output")
    store = Store(directory, _plan(model, text, wanted, parts, net))
    _refuse_other(directory, store, resume, force)
    return _trained(net, parts, wanted, Place(directory, store, resume), clock)


@dataclass(frozen=True)
class Place:
    """Where a training is kept, and whether an earlier one is continued."""

    directory: Path
    store: Store
    resume: bool


def _trained(net: Ready, parts: Parts, wanted: Asked, place: Place, clock: Clock) -> TrainResult:
    from converter.training.fit import Course, compile_model, fit, measure
    from converter.training.grouped import dense_groups
    from converter.training.statistics import quick_statistics

    fed = feeds(parts, net, clock)
    compile_model(net.model, net.outputs, wanted.options)
    state = place.store.resume(net.model) if place.resume else place.store.begin()
    course = Course(fed["train"], fed["validation"], net.outputs, wanted.options, place.store)
    steps = math.ceil(len(fed["train"]) / wanted.options.batch)
    with dense_groups(net.model), quick_statistics(net.model, steps):
        state = fit(net.model, course, state, clock.progress)
        place.store.load_best(net.model)
        with clock("test"):
            tested = measure(net.model, fed["test"], net.outputs, wanted.options.batch)
    result = TrainResult(
        model=net.name,
        path=str(place.directory / MODEL),
        directory=str(place.directory),
        data=parts.samples.title,
        classes=parts.samples.classes,
        parameters=int(net.model.count_params()),
        images={name: len(feed) for name, feed in fed.items()},
        epochs=state.epochs,
        best=state.best,
        test_accuracy=tested["accuracy"],
        test_loss=tested["loss"],
        stopped="finished" if len(state.epochs) == wanted.options.epochs else "early",
        seconds=sum(float(each["seconds"]) for each in state.epochs),
        notes=parts.samples.notes,
    )
    with clock("save"):
        _save(net, result, state, place, wanted)
    return result


def _save(net: Ready, result: TrainResult, state: Progressed, place: Place, wanted: Asked) -> None:
    from converter.training.saving import save_model

    directory = place.directory
    training = {
        "data": result.data,
        "fingerprint": state.plan["images"],
        "seed": wanted.options.seed,
        "shares": wanted.shares,
        "test_accuracy": result.test_accuracy,
    }
    about = About(net.preprocessing.to_json(), result.classes, training)
    history = {"schema": SCHEMA_VERSION, **vars(result), "plan": state.plan, "environment": machine.describe()}
    try:
        save_model(net.model, directory / MODEL)
        write_beside(directory / MODEL, about)
        (directory / LABELS).write_text("".join(f"{each}\n" for each in result.classes), encoding="utf-8")
        (directory / CURVES).write_text(curves_svg(net.name, state.epochs, state.best), encoding="utf-8")
        (directory / HISTORY).write_text(dumps(history), encoding="ascii")
        place.store.remove()
    except (OSError, RuntimeError) as error:  # h5py raises RuntimeError where the disk is full
        raise OutputError(f"{directory}: cannot be written: {error}\nmake room, and go on with --resume") from error


def _plan(model: str, data: str, wanted: Asked, parts: Parts, net: Ready) -> Facts:
    options = wanted.options
    return {
        "model": model,
        "data": data if data == parts.samples.title else parts.samples.title,
        "images": parts.fingerprint,
        "split": wanted.shares,
        "seed": options.seed,
        "width": wanted.width,
        "depth": wanted.depth,
        "logits": wanted.source.logits,
        "weights": wanted.source.weights,
        "input": net.size,
        "preprocessing": net.preprocessing.to_json(),
        "optimizer": options.optimizer,
        "rate": options.rate,
        "schedule": options.schedule,
        "epochs": options.epochs,
        "batch": options.batch,
    }


def _refuse_other(directory: Path, store: Store, resume: bool, force: bool) -> None:
    """Raise OutputError where a training in `directory` would be lost, or where the directory is something else."""
    own = {MODEL, HISTORY, CURVES, LABELS, MODEL.removesuffix(".keras") + SUFFIX}
    try:
        if directory.exists() and not directory.is_dir():
            raise OutputError(f"{directory}: is a file; --output needs a directory")
        found = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror or error}") from error
    if resume or force:
        return
    if store.exists():
        raise OutputError(
            f"{directory}: holds a training that was stopped\ngo on with --resume, or begin again with --force"
        )
    if found & own:
        raise OutputError(f"{directory}: holds a trained model\ngive another --output, or replace it with --force")
