"""Images as the samples that calibrate int8: a folder of images or of class folders, or a built-in set.

They are loaded as `predict` loads them, by the preprocessing of the model. Where the model was trained on the same
images, only those of the training part are taken, so that the test part stays for `evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.core.data import Array, Interface
from converter.core.errors import UsageError
from converter.core.foreign import Json
from converter.data.fingerprint import digests_of, fingerprint
from converter.data.preprocessing import Preprocessing, of_model
from converter.data.reading import input_of, read_picture
from converter.data.samples import BUILT_IN, Samples, images_in, load_samples
from converter.pipeline.evaluation_parts import chosen
from converter.pipeline.facts import ModelFacts

MOST = 512
"""Images that calibrate and prove; more of them change no range by much"""


def has_images(given: Path) -> bool:
    """Whether `given` names a built-in set, or a folder with images and without arrays."""
    if str(given) in BUILT_IN:
        return True
    arrays = (each.suffix in (".npz", ".npy") for each in given.iterdir()) if given.is_dir() else ()
    return given.is_dir() and not any(arrays) and bool(images_in(given))


def image_samples(given: Path, facts: ModelFacts) -> dict[str, Array]:
    """At most `MOST` images of `given` as inputs of the model, drawn with a seed: its one input by name.

    Raises UsageError for a model of several inputs, of images of any size, or without a preprocessing; InputError for a
    damaged image.
    """
    preprocessing, size = _required(given, facts)
    name = facts.interface.inputs[0].name
    if str(given) in BUILT_IN or _has_classes(given):
        samples = load_samples(str(given))
        indices = _drawn(chosen(samples, facts.source, _part(samples, facts.source), None)[1])
        pixels = [samples.pixels(int(each), preprocessing.channels, size, preprocessing.resize) for each in indices]
        return {name: preprocessing.apply(np.stack(pixels))}
    paths = images_in(given)
    kept = [paths[index] for index in _drawn(np.arange(len(paths)))]
    pictures = (read_picture(path, preprocessing.channels) for path in kept)
    return {name: np.stack([input_of(picture, preprocessing, size) for picture in pictures])}


def _required(given: Path, facts: ModelFacts) -> tuple[Preprocessing, tuple[int, int]]:
    interface: Interface = facts.interface
    shape = interface.inputs[0].shape
    if len(interface.inputs) != 1 or len(shape) != 4 or None in shape[1:]:
        raise UsageError(f"--calibration {given}: images need a model of one image of a known size\ngive an .npz file")
    found = of_model(facts.preprocessing, "preprocessing")
    if found is None:
        raise UsageError(
            f"--calibration {given}: how the model takes images is not known\nadd --preprocessing, or give an .npz file"
        )
    return found, (int(shape[1] or 0), int(shape[2] or 0))


def _has_classes(given: Path) -> bool:
    return sum(each.is_dir() and not each.name.startswith(".") for each in given.iterdir()) > 1


def _part(samples: Samples, source: Mapping[str, Json]) -> str:
    """ "train" where the model was trained on these images, else "all"."""
    training = source.get("training")
    own = isinstance(training, Mapping) and training.get("fingerprint") == fingerprint(samples, digests_of(samples))
    return "train" if own else "all"


def _drawn(indices: Array) -> Array:
    if len(indices) <= MOST:
        return indices
    return np.sort(indices[np.random.Generator(np.random.PCG64(0)).permutation(len(indices))[:MOST]])
