"""An architecture of the zoo, with weights from a file, with its published weights, or seeded and calibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from converter.core.data import Shape, ShapesByInput, Source, SourceOptions
from converter.core.errors import InputError, UsageError
from converter.core.foreign import Facts
from converter.core.text import one_line
from converter.sources.finish import finish
from converter.sources.spelling import only_shape
from converter.sources.untrained import calibrated
from converter.sources.weights import IMAGENET, assign_file, require_weights
from zoo import MODELS, ModelSpec


def load_zoo(name: str, options: SourceOptions) -> Source:
    """`MODELS[name]` with the classes, input shape and weights of `options`.

    Raises UsageError for classes or a shape that the architecture cannot have, InputError for weights that are missing,
    unreadable or of another model.
    """
    spec = MODELS[name]
    weights = options.weights
    require_weights(weights)
    if weights == IMAGENET:
        _require_published(spec, options)
    try:
        model = spec.build(
            classes=options.classes, input_shape=_shape(options.input_shape), logits=options.logits, random=False
        )
    except ValueError as error:
        raise UsageError(f"{one_line(error)}\ngive another --input-shape HxWxC or --classes") from error
    detail: Facts = {"architecture": name, "weights": "seeded and calibrated", "seed": options.seed}
    if weights is None:
        calibrated(model, name, options.seed, spec.preprocessing)
    else:
        path = _published_file(spec) if weights == IMAGENET else Path(weights)
        detail = {"architecture": name} | assign_file(model, path, name)
        if weights == IMAGENET:
            detail["weights"] = f"imagenet ({path.name})"
    source = finish(model, name, "zoo", detail)
    return replace(source, preprocessing=dict(spec.preprocessing), untrained=weights is None)


def fresh_zoo(name: str, options: SourceOptions, depth: float = 1.0) -> Source:
    """`MODELS[name]` with Keras's initial weights, for training: its classes, input shape and head as in `options`.

    Raises UsageError for classes, a shape or a `depth` that the architecture cannot have.
    """
    import keras

    spec = MODELS[name]
    keras.utils.set_random_seed(options.seed)
    shape = _shape(options.input_shape)
    try:
        model = spec.build(classes=options.classes, input_shape=shape, logits=options.logits, depth=depth)
    except ValueError as error:
        raise UsageError(f"{one_line(error)}\ngive another --input-shape HxWxC, --classes or --depth") from error
    source = finish(model, name, "zoo", {"architecture": name})
    return replace(source, preprocessing=dict(spec.preprocessing), untrained=True)


def _shape(given: Shape | ShapesByInput | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    shape = only_shape(given)
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape):
        raise UsageError("--input-shape: the zoo's architectures have fixed sizes; give numbers only, as in 224x224x3")
    return sizes


def _require_published(spec: ModelSpec, options: SourceOptions) -> None:
    available = ", ".join(other.name for other in MODELS.values() if other.published)
    if spec.published is None:
        raise UsageError(
            f"--weights imagenet: none are published for {spec.name}\n"
            f"published for {available}; give --weights PATH for your own"
        )
    if options.classes not in (None, spec.classes):
        raise UsageError(
            f"--weights imagenet: they have {spec.classes} classes, not {options.classes}\nleave --classes out"
        )


def _published_file(spec: ModelSpec) -> Path:
    from zoo.weights import WeightsError, published_weights

    try:
        return Path(published_weights(spec))
    except WeightsError as error:
        raise InputError(f"--weights imagenet: {one_line(error)}\ngive --weights PATH for a file you have") from error
