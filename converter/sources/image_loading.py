"""Images as Keras itself loads and preprocesses them, to compare this package's own loading with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.data.preprocessing import Preprocessing, Values

LOADED_BY_KERAS = ("stretch", "crop")
"""The ways of resizing that `keras.utils.load_img` has"""


def keras_input(path: Path, preprocessing: Preprocessing, size: tuple[int, int]) -> Values:
    """The image `path` by `keras.utils.load_img` and `preprocess_input`: float32, shape (height, width, channels).

    For a preprocessing that is no mode of Keras, the pixels are Keras's and the arithmetic ours.
    """
    import keras
    from keras.src.applications.imagenet_utils import preprocess_input

    image = keras.utils.load_img(
        path,
        color_mode="grayscale" if preprocessing.channels == "gray" else "rgb",
        target_size=size,
        interpolation=preprocessing.resize.interpolation,
        keep_aspect_ratio=preprocessing.resize.how == "crop",
    )
    pixels = keras.utils.img_to_array(image, data_format="channels_last", dtype="float32")
    modes = {"caffe": "bgr", "tf": "rgb", "torch": "rgb"}
    if modes.get(preprocessing.mode) == preprocessing.channels:
        values = preprocess_input(pixels[None], data_format="channels_last", mode=preprocessing.mode)[0]
        return np.asarray(values, np.float32)
    return preprocessing.apply(pixels.astype(np.uint8))
