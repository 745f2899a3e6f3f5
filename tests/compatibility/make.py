"""Write the artifact directories of the present version: `python tests/compatibility/make.py`.

They are made once for each version whose directories differ, committed, and never made again: what is kept is what
that version wrote. `test_compatibility.py` verifies all of them. The networks are small, so that all directories of a
version take less than 300 kB.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import converter

HERE = Path(__file__).resolve().parent
REPORTS = "report.html", "report.json"
"""What no check reads."""


def image_classifier() -> Any:
    """Grouped convolution, batch normalization, two heads."""
    import keras
    from keras import layers

    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(8, 3, strides=2, groups=4, name="grouped")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    heads = [layers.Dense(5, activation="softmax", name="main")(x), layers.Dense(2, name="aux")(x)]
    return keras.Model(image, heads, name="image_classifier")


def any_size() -> Any:
    """Height and width known at run time, as in segmentation."""
    import keras
    from keras import layers

    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax", name="classes")(x), name="any_size")


def sequence() -> Any:
    """A recurrent layer."""
    import keras
    from keras import layers

    given = keras.Input((6, 3), name="steps")
    x = layers.GRU(4, return_sequences=True, name="gru")(given)
    return keras.Model(given, layers.Dense(3, name="scores")(x), name="sequence")


EXPORTS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "image_classifier": (image_classifier, {"formats": "onnx,tflite,saved-model", "samples": 4}),
    "precisions": (image_classifier, {"formats": "onnx,tflite", "precision": ["fp16", "int8-weights"], "samples": 8}),
    "any_size": (any_size, {"formats": "onnx", "samples": 4, "dynamic_size": {"H": 8, "W": 8}}),
    "channels_first": (image_classifier, {"formats": "onnx", "layout": "nchw", "samples": 4}),
    "sequence": (sequence, {"formats": "onnx,tflite", "samples": 4}),
}


def make(directory: Path) -> None:
    """Fill `directory`, which must not exist, with the exports of `EXPORTS`."""
    import keras

    for name, (build, options) in EXPORTS.items():
        keras.utils.set_random_seed(0)
        report = converter.export(build(), output=directory / name, **options)
        if report.verdict != "pass":
            raise SystemExit(f"{name}: {report.verdict}: {'; '.join(report.reasons)}")
        for each in REPORTS:
            (directory / name / each).unlink(missing_ok=True)


def main() -> int:
    directory = HERE / converter.__version__
    if directory.exists():
        print(f"{directory} exists; what a version wrote is not written again", file=sys.stderr)
        return 2
    try:
        make(directory)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    print(f"{directory.name}: {len(EXPORTS)} exports, {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
