"""`keras:Name`: any builder of `keras.applications`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.core.data import Source, SourceOptions
from converter.core.errors import InputError, UsageError
from converter.core.text import one_line
from converter.sources.finish import finish
from converter.sources.names import KERAS_PREFIX, is_file, nearest
from converter.sources.untrained import calibrated


def load_application(text: str, options: SourceOptions) -> Source:
    """The model of `keras.applications` that `text` ("keras:EfficientNetB0") names.

    `options.kwargs` are passed to its builder, over `--classes`, `--input-shape` and `--logits`. Without weights they
    are seeded and calibrated. Raises UsageError for an unknown name or for arguments that Keras refuses, InputError
    for weights that cannot be had.
    """
    name = text.removeprefix(KERAS_PREFIX)
    builder = _builder(name)
    weights = options.weights
    if weights is not None and weights != "imagenet" and not is_file(weights):
        raise InputError(f"--weights {weights}: no such file\ngive a .keras, .weights.h5 or .h5 file, or `imagenet`")
    arguments: dict[str, Any] = {"weights": "imagenet" if weights == "imagenet" else None}
    if options.classes is not None:
        arguments["classes"] = options.classes
    if options.input_shape is not None:
        arguments["input_shape"] = tuple(options.input_shape)
    if options.logits:
        arguments["classifier_activation"] = None
    arguments.update(options.kwargs)
    model = _build(builder, name, arguments)

    preprocessing = preprocessing_of(builder, arguments)
    untrained = arguments["weights"] is None and weights is None
    detail: dict[str, Any] = {"builder": f"keras.applications.{name}", "arguments": _plain(arguments)}
    if untrained:
        calibrated(model, name, options.seed, preprocessing)
        detail |= {"weights": "seeded and calibrated", "seed": options.seed}
    elif weights is not None and weights != "imagenet":
        from converter.sources.weights import assign_file

        detail |= assign_file(model, Path(weights), text)
    else:
        detail["weights"] = str(arguments["weights"])
    return replace(finish(model, name, "keras", detail), preprocessing=preprocessing, untrained=untrained)


def builder_names() -> list[str]:
    """The builders of `keras.applications`, sorted."""
    import keras

    return sorted(name for name, value in vars(keras.applications).items() if name[:1].isupper() and callable(value))


def preprocessing_of(builder: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How an 8-bit RGB image becomes an input, read off the family's own `preprocess_input`.

    That function is affine in each channel; its values at black and at white give scale and offset, and an image whose
    red alone is lit tells where red goes. input = scale * pixel - mean, per channel where `scale` is a list.
    Models that hold their own Rescaling take pixels as they are; without it (`include_preprocessing=False`) they expect
    [-1, 1].
    """
    import numpy as np

    if arguments.get("include_preprocessing") is False:
        return {
            "range": [-1.0, 1.0],
            "channels": "rgb",
            "scale": 1.0 / 127.5,
            "mean": [1.0, 1.0, 1.0],
            "description": "pixels / 127.5 - 1",
        }
    preprocess = sys.modules[builder.__module__].preprocess_input

    def at(*colour: float) -> Any:
        image = np.array(colour, np.float32).reshape(1, 1, 1, 3)
        return np.asarray(preprocess(image, data_format="channels_last"), np.float64).reshape(3)

    black, white, red = at(0, 0, 0), at(255, 255, 255), at(255, 0, 0)
    swapped = bool(abs(red - black)[0] < abs(red - black)[2])
    scale = (white - black) / 255.0
    same = bool(np.allclose(scale, scale[0]))
    identity = same and bool(np.allclose(scale, 1.0)) and not black.any()

    def rounded(value: Any) -> float:  # float32 in, so seven digits are meant
        return float(f"{0.0 + value:.7g}")

    return {
        "range": [rounded(black.min()), rounded(white.max())],
        "channels": "bgr" if swapped else "rgb",
        "scale": rounded(scale[0]) if same else [rounded(value) for value in scale],
        "mean": [rounded(0.0 - value) for value in black],
        "description": "pixels 0 to 255; the model rescales them itself" if identity else "as Keras's preprocess_input",
    }


def _builder(name: str) -> Callable[..., Any]:
    import keras

    names = builder_names()
    if name not in names:
        guess = nearest(name, names)
        hint = f"did you mean keras:{guess}?" if guess else "see keras.applications for the names, as in keras:ResNet50"
        raise UsageError(f"keras:{name}: keras.applications has no such builder\n{hint}")
    found: Callable[..., Any] = getattr(keras.applications, name)
    return found


def _build(builder: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where Keras prints its downloads
            return builder(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"keras:{name}: {one_line(error)}\ncheck --input-shape, --classes and --kwargs") from error
    except Exception as error:
        # Keras reports a failed download of weights as a plain Exception
        if type(error) is Exception or isinstance(error, OSError):
            raise InputError(
                f"keras:{name}: the weights cannot be had: {one_line(error)}\n"
                "leave --weights out, or give --weights PATH for a file you have"
            ) from error
        raise


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
