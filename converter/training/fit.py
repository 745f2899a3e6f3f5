"""Keras's `fit`, one epoch at a time: rate, order of the images, validation, checkpoint and early stopping.

The order of the images depends on the seed and the number of the epoch alone, so a training that was stopped and
resumed sees the same images in the same order as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from converter.core.data import TensorSpec
from converter.core.errors import UsageError
from converter.core.foreign import Facts, KerasCallback, KerasDataset, KerasModel
from converter.data.feed import Feed
from converter.data.samples import Indices
from converter.training.options import AUXILIARY, TrainOptions
from converter.training.store import Progressed, Store

Report = Callable[[str, float | None], None]
"""Called with a line and None while an epoch runs, and with its duration at its end"""


@dataclass(frozen=True)
class Course:
    """What a training needs beside the model; `outputs` are the model's, each with a value for each class."""

    train: Feed
    validation: Feed
    outputs: tuple[TensorSpec, ...]
    options: TrainOptions
    store: Store


def compile_model(model: KerasModel, outputs: tuple[TensorSpec, ...], options: TrainOptions) -> None:
    """Give `model` its optimizer, a cross entropy for each of `outputs`, weighted 1 and then 0.3, and the accuracy."""
    import keras

    keras.utils.set_random_seed(options.seed)
    rate = options.rate_at(0)
    optimizer = keras.optimizers.Adam(rate) if options.optimizer == "adam" else keras.optimizers.SGD(rate, momentum=0.9)
    losses = [keras.losses.SparseCategoricalCrossentropy(from_logits=each.activation != "softmax") for each in outputs]
    model.compile(
        optimizer=optimizer,
        loss=losses,
        loss_weights=[1.0, *[AUXILIARY] * (len(outputs) - 1)],
        metrics=[[keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for _ in outputs],
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)


def fit(model: KerasModel, course: Course, state: Progressed, report: Report) -> Progressed:
    """Train the compiled `model` from the epoch after `state` on; every epoch is stored before the next one begins.

    Raises UsageError where the loss is no longer a number, OutputError where an epoch cannot be stored.
    """
    options = course.options
    while len(state.epochs) < options.epochs and not (options.patience and state.waited >= options.patience):
        number = len(state.epochs)
        started = time.perf_counter()
        rate = options.rate_at(number)
        model.optimizer.learning_rate = rate
        order = np.random.Generator(np.random.PCG64([options.seed, number])).permutation(len(course.train))
        batches = _batches(course.train, order, options.batch, len(course.outputs))
        title = f"epoch {number + 1}/{options.epochs}"
        fitted = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[_bar(title, len(batches), report)])
        found = {key: float(values[-1]) for key, values in fitted.history.items()}
        if not all(math.isfinite(each) for each in found.values()):
            raise UsageError(
                f"{title}: the loss is no longer a number: training diverged\ngive a lower --rate than {rate:g}"
            )
        checked = measure(model, course.validation, course.outputs, options.batch)
        record: Facts = {
            "epoch": number + 1,
            "rate": rate,
            "loss": found["loss"],
            "accuracy": _accuracy(found, course.outputs),
            "validation_loss": checked["loss"],
            "validation_accuracy": checked["accuracy"],
            "seconds": time.perf_counter() - started,
        }
        lowest = state.epochs[state.best]["validation_loss"] if state.best >= 0 else math.inf
        better = number if record["validation_loss"] < lowest else state.best
        state = replace(state, epochs=(*state.epochs, record), best=max(better, 0))
        course.store.save(model, state)
        report(
            f"{title}: loss {record['loss']:.4f}, accuracy {record['accuracy']:.4f}, "
            f"validation {record['validation_loss']:.4f}, {record['validation_accuracy']:.4f}",
            record["seconds"],
        )
    return state


def measure(model: KerasModel, feed: Feed, outputs: tuple[TensorSpec, ...], batch: int) -> dict[str, float]:
    """The loss and the accuracy of the first output over `feed`."""
    found = model.evaluate(_batches(feed, np.arange(len(feed)), batch, len(outputs)), verbose=0, return_dict=True)
    values = {key: float(value) for key, value in found.items()}
    return {"loss": values["loss"], "accuracy": _accuracy(values, outputs)}


def _accuracy(found: dict[str, float], outputs: tuple[TensorSpec, ...]) -> float:
    """The accuracy of the first output; Keras puts its name in front where there are several."""
    return (
        found["accuracy"]
        if len(outputs) == 1
        else next(
            value for key, value in found.items() if key.endswith("_accuracy") and key.startswith(outputs[0].name)
        )
    )


def _batches(feed: Feed, order: Indices, batch: int, outputs: int) -> KerasDataset:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """Inputs and labels, the labels once for each output."""

        def __len__(self) -> int:
            return math.ceil(len(order) / batch)

        def __getitem__(self, index: int) -> tuple[object, object]:
            positions = order[index * batch : (index + 1) * batch]
            labels = feed.labels[positions]
            return feed.batch(positions), labels if outputs == 1 else (labels,) * outputs

    return Batches()


def _bar(title: str, count: int, report: Report) -> KerasCallback:
    import keras

    class Bar(keras.callbacks.Callback):  # type: ignore[misc]
        """Reports a progress bar, at most five times a second."""

        shown = 0.0

        def on_train_batch_end(self, batch: int, logs: Facts | None = None) -> None:
            now = time.perf_counter()
            if now - self.shown > 0.2:
                self.shown = now
                done = round(20 * (batch + 1) / count)
                loss = float((logs or {}).get("loss", math.nan))
                report(f"{title} [{'#' * done}{'.' * (20 - done)}] {batch + 1}/{count} loss {loss:.4f}", None)

    return Bar()
