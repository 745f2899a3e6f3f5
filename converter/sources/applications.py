"""`keras:Name`: a model from any builder of `keras.applications`, and the preprocessing of its inputs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from converter.core.data import Array, Source, SourceOptions
from converter.core.errors import InputError, UsageError
from converter.core.foreign import Facts, Given, Json, JsonObject, KerasLayer, KerasModel
from converter.core.text import one_line
from converter.sources.finish import finish
from converter.sources.names import KERAS_PREFIX, nearest
from converter.sources.spelling import only_shape
from converter.sources.untrained import calibrated
from converter.sources.weights import IMAGENET, assign_file, require_weights

Builder = Callable[..., KerasModel]


def load_application(text: str, options: SourceOptions) -> Source:
    """The model of `keras.applications` that `text` ("keras:EfficientNetB0") names.

    `options.kwargs` are passed to its builder, and override `--classes`, `--input-shape` and `--logits`. A model
    without weights gets seeded and calibrated ones. Raises UsageError for an unknown name or for arguments that Keras
    refuses, InputError for weights that are unavailable.
    """
    name = text.removeprefix(KERAS_PREFIX)
    builder = _builder(name)
    weights = options.weights
    require_weights(weights)
    arguments: Given = {"weights": IMAGENET if weights == IMAGENET else None}
    if options.classes is not None:
        arguments["classes"] = options.classes
    if options.input_shape is not None:
        arguments["input_shape"] = only_shape(options.input_shape)
    if options.logits:
        arguments["classifier_activation"] = None
    arguments.update(options.kwargs)
    model = _build(builder, name, arguments)

    preprocessing = preprocessing_of(builder, arguments)
    untrained = arguments["weights"] is None and weights is None
    detail: Facts = {"builder": f"keras.applications.{name}", "arguments": _plain(arguments)}
    if untrained:
        calibrated(model, name, options.seed, preprocessing)
        detail |= {"weights": "seeded and calibrated", "seed": options.seed}
    elif weights is not None and weights != IMAGENET:
        detail |= assign_file(model, Path(weights), text)
    else:
        detail["weights"] = str(arguments["weights"])
    return replace(finish(model, name, "keras", detail), preprocessing=preprocessing, untrained=untrained)


def builder_names() -> list[str]:
    """The builders of `keras.applications`, sorted."""
    import keras

    return sorted(name for name, value in vars(keras.applications).items() if name[:1].isupper() and callable(value))


def preprocessing_of(builder: Builder, arguments: Mapping[str, Json]) -> JsonObject:
    """How an 8-bit RGB image becomes an input, measured on the family's `preprocess_input`.

    That function is affine in each channel: its values for a black and a white image give scale and offset, and a red
    image shows which channel is red. input = scale * pixel - mean, per channel where `scale` is a list. Models with
    their own preprocessing layers take pixels as they are; without them (`include_preprocessing=False`) the inputs are
    what these layers would have returned.
    """
    import numpy as np

    inside = _layers_left_out(builder, arguments) if arguments.get("include_preprocessing") is False else []
    preprocess = sys.modules[builder.__module__].preprocess_input

    def at(*colour: float) -> Array:
        image = np.array(colour, np.float32).reshape(1, 1, 1, 3)
        result = preprocess(image, data_format="channels_last")
        for layer in inside:
            result = layer(result)
        return np.asarray(result, np.float64).reshape(3)

    black, white, red = at(0, 0, 0), at(255, 255, 255), at(255, 0, 0)
    swapped = bool(abs(red - black)[0] < abs(red - black)[2])
    scale = (white - black) / 255.0
    same = bool(np.allclose(scale, scale[0]))
    identity = same and bool(np.allclose(scale, 1.0)) and not black.any()

    def rounded(value: float) -> float:  # the input is float32, which has seven digits
        return float(f"{0.0 + value:.7g}")

    return {
        "range": [rounded(black.min()), rounded(white.max())],
        "channels": "bgr" if swapped else "rgb",
        "scale": rounded(scale[0]) if same else [rounded(value) for value in scale],
        "mean": [rounded(0.0 - value) for value in black],
        "description": "as the preprocessing layers that were left out" if inside else "as Keras's preprocess_input",
        **({"description": "pixels 0 to 255; the model rescales them itself"} if identity else {}),
    }


def _layers_left_out(builder: Builder, arguments: Mapping[str, Json]) -> list[KerasLayer]:
    """The preprocessing layers that a model of this family begins with if it is built with them."""
    import keras

    waiting = list(builder(**{**arguments, "weights": None, "include_preprocessing": True}).layers)
    found: list[KerasLayer] = []
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, keras.Sequential):
            waiting = [*layer.layers, *waiting]
        elif isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            found.append(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            break
    return found


def _builder(name: str) -> Builder:
    import keras

    names = builder_names()
    if name not in names:
        guess = nearest(name, names)
        hint = f"did you mean keras:{guess}?" if guess else "see keras.applications for the names, as in keras:ResNet50"
        raise UsageError(f"keras:{name}: keras.applications has no such builder\n{hint}")
    found: Builder = getattr(keras.applications, name)
    return found


def _build(builder: Builder, name: str, arguments: Given) -> KerasModel:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints the progress of downloads to stdout
            return builder(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"keras:{name}: {one_line(error)}\ncheck --input-shape, --classes and --kwargs") from error
    except Exception as error:
        # Keras reports a failed download of weights as a plain Exception
        if type(error) is Exception or isinstance(error, OSError):
            raise InputError(
                f"keras:{name}: the weights are unavailable: {one_line(error)}\n"
                "leave --weights out, or give --weights PATH for a file you have"
            ) from error
        raise


def _plain(arguments: Given) -> JsonObject:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
