"""What belongs to a model beside its graph: preprocessing and labels, from the user or from its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converter.core.data import Source
from converter.core.foreign import Json
from converter.data.labels import imagenet_labels, read_labels, require_count
from converter.data.preprocessing import CUSTOM, given, of_model
from converter.tracing.signature import Signature, describe

IMAGENET_CLASSES = 1000


def described(source: Source, signature: Signature, preprocessing: str | None, labels: str | None) -> Source:
    """`source` with its preprocessing and labels: those of the user, else its own, else ImageNet's 1,000.

    Raises UsageError where there is not a label for each class.
    """
    facts: Mapping[str, Json] = source.preprocessing
    if preprocessing is not None:
        facts = given(preprocessing, facts).to_json()
    elif (found := of_model(facts, "preprocessing")) is not None and found.mode != CUSTOM:
        facts = {**facts, "mode": found.mode, "resize": found.to_json()["resize"]}
    names = read_labels(labels) if labels is not None else source.labels
    classes = _classes(signature)
    if labels is not None:
        require_count(names, classes or 0, f"--labels {labels}")
    elif not names and classes == IMAGENET_CLASSES and source.kind in ("keras", "zoo") and not source.untrained:
        names = imagenet_labels()
    return replace(source, preprocessing=facts, labels=names)


def with_preprocessing(source: Source, signature: Signature) -> tuple[Source, Signature]:
    """`source` with its preprocessing as a part of its model, and the signature of that model."""
    from converter.sources.embedding import embedded

    found = embedded(source, of_model(source.preprocessing, "preprocessing"), signature.inputs)
    return found, describe(found.model)


def about(source: Source) -> dict[str, Json]:
    """What the artifacts carry; empty where nothing is known."""
    found = {"preprocessing": dict(source.preprocessing), "labels": list(source.labels)}
    return {key: value for key, value in found.items() if value}


def _classes(signature: Signature) -> int | None:
    """The number of classes: the last axis of the first output; None where it is not fixed."""
    return next((spec.shape[-1] for spec in signature.outputs[:1] if len(spec.shape) > 1), None)
