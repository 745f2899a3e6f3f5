"""Images as Keras itself loads and preprocesses them, to compare this package's own loading with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.data.preprocessing import Preprocessing, Values


def keras_input(path: Path, preprocessing: Preprocessing, size: tuple[int, int]) -> Values:
    """The image `path` by `keras.utils.load_img` and `preprocess_input`: float32, shape (height, width, channels).

    That function has no padding: the image is loaded at the size that it has inside of its border, and numpy adds the
    border. For a preprocessing that is no mode of Keras, the pixels are Keras's and the arithmetic ours.
    """
    import keras
    from keras.src.applications.imagenet_utils import preprocess_input

    resize = preprocessing.resize
    image = keras.utils.load_img(
        path,
        color_mode="grayscale" if preprocessing.channels == "gray" else "rgb",
        target_size=_inside(path, size) if resize.how == "pad" else size,
        interpolation=resize.interpolation,
        keep_aspect_ratio=resize.how == "crop",
    )
    pixels = keras.utils.img_to_array(image, data_format="channels_last", dtype="float32")
    if resize.how == "pad":
        borders = [(want - have, (want - have) // 2) for want, have in zip(size, pixels.shape[:2], strict=True)]
        width = [*((before, whole - before) for whole, before in borders), (0, 0)]
        pixels = np.pad(pixels, width, constant_values=float(resize.fill))
    modes = {"caffe": "bgr", "tf": "rgb", "torch": "rgb"}
    if modes.get(preprocessing.mode) == preprocessing.channels:
        values = preprocess_input(pixels[None], data_format="channels_last", mode=preprocessing.mode)[0]
        return np.asarray(values, np.float32)
    return preprocessing.apply(pixels.astype(np.uint8))


def _inside(path: Path, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image whose longer side, by the proportions of `size`, fills it."""
    import keras

    width, height = keras.utils.load_img(path).size
    if width * size[0] >= height * size[1]:
        return max(1, round(height * size[1] / width)), size[1]
    return size[0], max(1, round(width * size[0] / height))
