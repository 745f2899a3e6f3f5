"""What `train` needs before an epoch begins: checked options, the images in three parts, the model to train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from converter.core.clock import Clock
from converter.core.data import SourceOptions, TensorSpec
from converter.core.errors import UsageError
from converter.core.foreign import Facts, Json, KerasModel
from converter.data.feed import Feed
from converter.data.fingerprint import digests_of, fingerprint
from converter.data.preprocessing import HOWS, Channels, How, Preprocessing, Resize, given, named, of_model
from converter.data.samples import Samples, load_samples
from converter.data.split import PARTS, Split, split
from converter.pipeline.arguments import source_options
from converter.pipeline.checks import require_choice
from converter.pipeline.options import SourceKeywords, TrainKeywords
from converter.training.options import OPTIMIZERS, SCHEDULES, TrainOptions

LOGGED = 50  # images, between two reports of the decoding


@dataclass(frozen=True)
class Asked:
    """The checked keywords of `train`."""

    options: TrainOptions
    source: SourceOptions
    width: float
    depth: float
    shares: tuple[float, float]  # validation, test
    preprocessing: str | None
    resize: Resize


@dataclass(frozen=True)
class Parts:
    """The images of a training; `fingerprint` is a hash of all of them and of their classes."""

    samples: Samples
    split: Split
    fingerprint: str


@dataclass(frozen=True)
class Ready:
    """The model to train, its outputs, how it gets its images, and their size (height, width)."""

    model: KerasModel
    name: str
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    size: tuple[int, int]


def asked(keywords: TrainKeywords) -> Asked:
    """The keywords, checked. Raises UsageError for a wrong value, InputError for an unreadable preprocessing."""
    values: Facts = dict(keywords)
    about = {name: value for name, value in values.items() if name in SourceKeywords.__annotations__}
    source = source_options(about)
    own = {name: values[name] for name in TrainOptions.__annotations__ if name in values}
    options = replace(TrainOptions(), **own)
    for name, least in (("epochs", 1), ("batch", 1), ("patience", 0)):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"--{name} {value}: give a whole number of at least {least}")
    require_choice("optimizer", options.optimizer, OPTIMIZERS)
    require_choice("schedule", options.schedule, SCHEDULES)
    numbers = {name: float(values.get(name, 1.0)) for name in ("width", "depth")}
    for name, number in {**numbers, "rate": 1.0 if options.rate is None else options.rate}.items():
        if not 0 < number < math.inf:
            raise UsageError(f"--{name} {number:g}: give a number above 0")
    how = values.get("resize", "pad")
    require_choice("resize", how, HOWS)
    text = values.get("preprocessing")
    if text is not None:
        given(str(text), {})
    if source.classes is not None:
        raise UsageError("--classes: the classes are those of the data\nleave it out")
    if source.weights is not None and (numbers["width"], numbers["depth"]) != (1.0, 1.0):
        raise UsageError("--weights: do not fit a model of another --width or --depth\nleave one of them out")
    shares = float(values.get("validation", 0.1)), float(values.get("test", 0.1))
    resize = Resize(cast(How, how))
    return Asked(options, source, numbers["width"], numbers["depth"], shares, text and str(text), resize)


def parts_of(data: str, wanted: Asked, clock: Clock) -> Parts:
    """The images that `data` names, in three parts. Raises InputError and UsageError for images that cannot be used."""
    with clock("read images"):
        samples = load_samples(data)
        digests = digests_of(samples)
        validation, test = wanted.shares
        found = split(samples.labels, digests, validation=validation, test=test, seed=wanted.options.seed)
    return Parts(samples, found, fingerprint(samples, digests))


def ready(model: str, wanted: Asked, classes: int) -> Ready:
    """The model that the text `model` names, with an output for each of `classes`, and its preprocessing.

    Raises what loading a source raises; UsageError for a model that is no classifier of one image.
    """
    from converter import sources
    from converter.sources.zoo_models import fresh_zoo
    from converter.tracing.context import quiet_tensorflow
    from converter.tracing.signature import describe
    from converter.training.heads import heads
    from converter.training.narrow import narrowed

    kind = sources.kind_of(model)
    options = replace(wanted.source, classes=classes if kind in ("zoo", "keras") else None)
    if kind == "zoo" and options.weights is None:
        quiet_tensorflow()
        source = fresh_zoo(model, options, wanted.depth)
    elif wanted.depth != 1.0:
        raise UsageError(f"--depth {wanted.depth:g}: only for models of the zoo without --weights\nleave it out")
    else:
        source = sources.load(model, options)
    net = narrowed(source.model, wanted.width)
    signature = describe(net)
    shape = signature.inputs[0].shape
    if len(signature.inputs) != 1 or len(shape) != 4 or shape[3] not in (1, 3) or None in shape[1:3]:
        sizes = ", ".join(f"{each.name} {each.shape[1:]}" for each in signature.inputs)
        raise UsageError(
            f"{model}: its inputs are {sizes}, not one image of a fixed size\ngive --input-shape HxWx1 or HxWx3"
        )
    for output in signature.outputs:
        if len(output.shape) != 2 or output.shape[1] != classes:
            raise UsageError(
                f"{model}: output {output.name} has shape {output.shape[1:]}, the data have {classes} classes\n"
                "train a model whose outputs are a softmax or logits of as many classes"
            )
    how = _preprocessing(wanted, source.preprocessing, "gray" if shape[3] == 1 else "rgb")
    outputs = heads(net, signature.outputs, model)
    return Ready(net, source.name, outputs, how, (int(shape[1] or 0), int(shape[2] or 0)))


def feeds(parts: Parts, model: Ready, clock: Clock) -> dict[str, Feed]:
    """The three parts as inputs of `model`, decoded. Raises InputError for a damaged image."""
    found = {}
    for name in PARTS:
        indices = parts.split.part(name)
        feed = Feed(parts.samples, indices, parts.samples.labels[indices], model.preprocessing, model.size)

        def show(done: int, of: int, name: str = name) -> None:
            if done % LOGGED == 0:
                clock.progress(f"decode {name} {done:,}/{of:,}", None)

        with clock(f"decode {name} images"):
            feed.decode(show)
        found[name] = feed
    return found


def _preprocessing(wanted: Asked, facts: Mapping[str, Json], channels: Channels) -> Preprocessing:
    """The one that was asked for, else the model's own if it fits its channels, else pixels / 255."""
    if wanted.preprocessing is not None:
        return replace(given(wanted.preprocessing, {"channels": channels}), resize=wanted.resize)
    own = of_model(facts, "preprocessing")
    fits = own is not None and (own.channels == "gray") == (channels == "gray")
    return replace(own, resize=wanted.resize) if own is not None and fits else named("unit", channels, wanted.resize)
