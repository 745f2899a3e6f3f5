"""Keras beside the artifacts: its outputs for the same images, and its own loading of the same files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from converter.bundle.manifest import Manifest
from converter.core.data import Array, SourceOptions
from converter.core.errors import UsageError
from converter.data.feed import Feed
from converter.data.preprocessing import Values
from converter.pipeline.options import ModelOrPath
from converter.prediction.classify import Classifier, Probabilities, probabilities
from converter.prediction.evaluation import Row
from converter.prediction.loading_proof import (
    LoadingProof,
    judged,
    prove_loading,
    shifted_labels,
    wrong_inputs,
)
from converter.sources import opened
from converter.sources.image_loading import keras_input
from converter.tracing.prediction import Prediction
from converter.tracing.signature import Signature, describe

PROVEN = 8
"""Images whose loading is proven"""


@dataclass(frozen=True)
class KerasSide:
    """The Keras model of an export."""

    prediction: Prediction
    signature: Signature

    @classmethod
    def load(cls, model: ModelOrPath, manifest: Manifest) -> KerasSide:
        """The model that the source `model` is. Raises UsageError unless it is the one that was exported."""
        source = opened(model, SourceOptions()).load()
        signature = describe(source.model)
        known, own = manifest.source.get("sha256"), source.detail.get("sha256")
        if known is not None and own is not None and known != own:
            raise UsageError(f"--keras {model}: not the file that was exported\ngive that file, or export this one")
        for kind in ("inputs", "outputs"):
            names, there = ([each.name for each in getattr(one, kind)] for one in (signature, manifest))
            if sorted(names) != sorted(there):
                raise UsageError(
                    f"--keras {model}: its {kind} are {', '.join(names)}, those of the export {', '.join(there)}"
                )
        return cls(Prediction(source.model, signature), signature)

    def outputs(self, inputs: Values) -> dict[str, Array]:
        """What Keras returns for `inputs`, shape (images, height, width, channels), by name."""
        return self.prediction({self.signature.inputs[0].name: inputs})

    def proof(self, classifiers: Sequence[Classifier], feed: Feed, reference: Row) -> LoadingProof:
        """The proof of the preprocessing with the first images of each class."""
        how = feed.preprocessing
        places = _spread(feed)
        pictures = [feed.samples.read(int(feed.indices[place]), how.channels) for place in places]
        with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
            theirs = []
            for number, picture in enumerate(pictures):
                file = Path(scratch, f"{number}.png")
                picture.image.save(file)
                theirs.append(keras_input(file, how, feed.size))
        first = classifiers[0].subject
        output = first.output

        def keras(values: Values) -> Probabilities:
            return probabilities(self.outputs(values)[output.name], output.activation, len(values), "keras")

        runs = {each.subject.title: partial(_run, each) for each in classifiers}
        exact = frozenset(each.subject.title for each in classifiers if each.subject.artifact.precision == "float32")
        values = np.stack(theirs)
        expected = keras(values)
        controls = judged(wrong_inputs(pictures, how, feed.size), runs[first.title], expected)
        labels, predicted = np.array(_pairs(reference), np.int64).T
        shifted = shifted_labels(predicted, labels, first.classes)
        return prove_loading((values, feed.batch(places)), expected, runs, (*controls, shifted), exact)


def _run(classifier: Classifier, values: Values) -> Probabilities:
    return classifier.probabilities(values)


def _pairs(reference: Row) -> list[tuple[int, int]]:
    """The class and the predicted class of every image, from the confusion matrix."""
    return [
        (true, predicted)
        for true, counts in enumerate(reference.confusion)
        for predicted, count in enumerate(counts)
        for _ in range(count)
    ]


def _spread(feed: Feed) -> list[int]:
    """The places of some images, of as many classes as there are."""
    order = sorted(range(len(feed)), key=lambda place: (int((feed.labels[:place] == feed.labels[place]).sum()), place))
    return sorted(order[:PROVEN])
