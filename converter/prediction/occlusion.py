"""Which part of an image a class depends on, by occlusion: works in every runtime, since only inputs are changed.

A square of the image's mean colour is moved over the image. Where it lowers the probability of the class most, the
model looks (Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from converter.data.preprocessing import Pixels, Preprocessing, Values
from converter.prediction.classify import Probabilities

CELLS = 12
"""Places of the square along each side"""
SQUARE = 3
"""Its side, in cells"""
Map = npt.NDArray[np.float64]


def occlusion_map(
    pixels: Pixels, preprocessing: Preprocessing, run: Callable[[Values], Probabilities], index: int
) -> Map:
    """How much each cell matters for the class `index`: shape (rows, columns), 0 to 1, the most important is 1.

    `pixels` has shape (height, width, channels); all zeros where nothing lowers the probability.
    """
    height, width = pixels.shape[:2]
    rows, columns = min(CELLS, height), min(CELLS, width)
    edges_y, edges_x = (
        np.linspace(0, size, count + 1).astype(int) for size, count in ((height, rows), (width, columns))
    )
    grey = pixels.reshape(-1, pixels.shape[2]).mean(0).round().astype(np.uint8)
    inside = SQUARE // 2
    changed = []
    for row in range(rows):
        for column in range(columns):
            copy = pixels.copy()
            top, bottom = edges_y[max(0, row - inside)], edges_y[min(rows, row + inside + 1)]
            left, right = edges_x[max(0, column - inside)], edges_x[min(columns, column + inside + 1)]
            copy[top:bottom, left:right] = grey
            changed.append(copy)
    whole = run(preprocessing.apply(pixels[None]))[0, index]
    hidden = np.concatenate(
        [
            run(preprocessing.apply(np.stack(changed[start : start + columns])))[:, index]
            for start in range(0, len(changed), columns)
        ]
    )
    drops = np.maximum(0.0, whole - hidden).reshape(rows, columns)
    return np.asarray(drops / drops.max() if drops.max() > 0 else drops, np.float64)


def overlaid(pixels: Pixels, found: Map) -> Image.Image:
    """The image in grey, in red where `found` is near 1."""
    height, width = pixels.shape[:2]
    grey = pixels.mean(2, keepdims=True).repeat(3, 2)
    scaled = Image.fromarray((found * 255).round().astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    weight = np.asarray(scaled, np.float64)[..., None] / 255.0 * 0.7
    red = np.array([255.0, 40.0, 0.0])
    return Image.fromarray((grey * (1 - weight) + red * weight).round().astype(np.uint8))
