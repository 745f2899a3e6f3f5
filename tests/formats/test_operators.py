"""Functions of Keras whose own operators some format lacks, or computes otherwise: the same numbers in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.core.data import WriteOptions
from converter.formats import FORMATS


def check(call: Callable[[Any], Any], folder: Path, shape: tuple[int, ...], tolerance: float = 2e-6) -> None:
    """A model of `call` in every format against Keras, on three samples of `shape`."""
    import keras
    from test_recurrent import outputs_of

    from converter.tracing.signature import describe
    from converter.tracing.trace import trace

    class Calling(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return call(x)

    given = keras.Input(shape, name="given")
    model = keras.Model(given, Calling()(given))
    inputs = {"given": np.random.default_rng(0).uniform(-1, 1, (3, *shape)).astype(np.float32)}
    expected = [np.asarray(each) for each in keras.tree.flatten(model(inputs["given"]))]
    traced = trace(model, describe(model))
    for name, each in FORMATS.items():
        (folder / name).mkdir()
        artifact = each.write(traced, folder / name, WriteOptions())
        found = outputs_of(name, folder / name, inputs)
        for spec, reference in zip(artifact.outputs, expected, strict=True):
            assert found[spec.name].shape == reference.shape
            np.testing.assert_allclose(
                found[spec.name], reference, rtol=0, atol=tolerance, err_msg=f"{name} {spec.name}"
            )


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic", "area", "lanczos3"])
def test_resizing_to_any_size(kind: str, antialias: bool, tmp_path: Path) -> None:
    """5 to 9 rows: as a ratio in float32 it is a little less, and ONNX rounds down."""
    from keras import ops

    def call(x: Any) -> list[Any]:
        resized = [ops.image.resize(x, size, kind, antialias=antialias) for size in ((9, 7), (3, 11))]
        moved = ops.transpose(x, (0, 3, 1, 2))
        return [*resized, ops.image.resize(moved, (7, 10), kind, antialias=antialias, data_format="channels_first")]

    check(call, tmp_path, (5, 8, 3))


def test_rolled_axes(tmp_path: Path) -> None:
    from keras import ops

    def call(x: Any) -> list[Any]:
        return [ops.roll(x, 3, axis=1), ops.roll(x, (-2, 9), axis=(1, 2)), ops.roll(x, -1, axis=-1)]

    check(call, tmp_path, (6, 8, 3))
