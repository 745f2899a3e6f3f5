"""A model with its preprocessing inside: it takes 8-bit RGB images of any size, and equals Pillow and this package."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from converter.core.data import Source, TensorSpec
from converter.core.errors import ConversionError, InconclusiveError, UsageError
from converter.core.foreign import KerasLayer
from converter.data.preprocessing import Preprocessing, named
from converter.data.reading import pixels_of
from converter.sources.functional import is_graph

NAME = "image"
SIZES = ((61, 83), (40, 30), (9, 200), (1, 1))
"""Height and width of the images on which the layer is compared with Pillow; and twice the size of the input"""
CLOSE = 1e-6
"""Of the range of the input"""


def embedded(source: Source, preprocessing: Preprocessing | None, inputs: tuple[TensorSpec, ...]) -> Source:
    """`source` with `preprocessing` as the first layer of its model, whose input is `image`: uint8, any size, RGB.

    The layer is compared with Pillow, and mistakes have to be noticed. Raises UsageError where the model does not take
    one image of a fixed size, or the preprocessing is not known or cannot be a part of a graph; ConversionError or
    InconclusiveError where the comparison fails or says nothing.
    """
    import keras

    from converter.sources.embedded_layer import SUPPORT, Preprocess

    where = f"--embed-preprocessing: {source.name}"
    if preprocessing is None:
        raise UsageError(f"{where}: how an image becomes its input is not known\ngive --preprocessing")
    shape = inputs[0].shape
    channels = 1 if preprocessing.channels == "gray" else 3
    if len(inputs) != 1 or len(shape) != 4 or None in shape[1:3] or shape[3] != channels:
        raise UsageError(f"{where}: takes {list(shape)}, not one image of a fixed size with {channels} channels")
    if preprocessing.resize.interpolation not in SUPPORT:
        raise UsageError(
            f"{where}: {preprocessing.resize.interpolation} is not written into graphs\nuse {', '.join(SUPPORT)}"
        )
    if not is_graph(source.model):
        raise UsageError(f"{where}: is a {type(source.model).__name__}, not a functional model\nsave it as one")
    size = (int(shape[1] or 0), int(shape[2] or 0))
    layer = Preprocess(preprocessing, size, _free_name(source))
    _prove(layer, preprocessing, size)
    image = keras.Input((None, None, 3), dtype="uint8", name=NAME)
    graph = getattr(source.model, "_functional", None) or source.model
    outputs = graph._run_through_graph(
        [layer(image)],
        operation_fn=lambda operation: operation,
        call_fn=lambda op, *args, **kwargs: op(*args, **kwargs),
    )
    model = keras.Model(image, outputs, name=source.model.name)
    facts = {**named("plain", "rgb", preprocessing.resize).to_json(), "inside": preprocessing.to_json()}
    facts["description"] = f"any 8-bit RGB image; in the graph: {preprocessing.to_json()['description']}"
    return replace(source, model=model, preprocessing=facts)


def _prove(layer: KerasLayer, preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    """Compare the layer with Pillow for images of several sizes, and see that other resizes would be noticed."""
    low, high = preprocessing.span
    worst, noticed = 0.0, 0.0
    for number, (height, width) in enumerate((*SIZES, (2 * size[0] + 1, 2 * size[1]))):
        pixels = np.random.Generator(np.random.PCG64(number)).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(pixels).convert("L" if preprocessing.channels == "gray" else "RGB")
        expected = preprocessing.apply(pixels_of(image, size, preprocessing.resize))
        actual = np.asarray(layer(pixels[None]))[0]
        worst = max(worst, float(np.abs(actual - expected).max()) / (high - low))
        other = replace(preprocessing.resize, interpolation="nearest")
        wrong = preprocessing.apply(pixels_of(image, size, other))
        noticed = max(noticed, float(np.abs(wrong - expected).max()) / (high - low))
    if not worst <= CLOSE:
        raise ConversionError(
            f"{layer.name}: the resize in the graph differs from Pillow's by {worst:.1e} of the range"
        )
    if noticed <= 100 * CLOSE:
        raise InconclusiveError(f"{layer.name}: another resize would not be noticed, so the comparison says nothing")


def _free_name(source: Source) -> str:
    taken = {layer.name for layer in source.model.layers}
    return next(
        name
        for name in ("preprocess", *(f"preprocess_{number}" for number in range(len(taken) + 1)))
        if name not in taken
    )
