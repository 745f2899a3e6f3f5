"""Seeded weights for a source without its own: over how many samples they are calibrated."""

from __future__ import annotations

from typing import Any

import pytest

from converter.core.data import TensorSpec
from converter.sources.untrained import MOST_SAMPLES, calibrated


@pytest.mark.parametrize(
    ("size", "expected"), [((224, 224), 8), ((64, 64), 8), ((63, 64), 9), ((32, 32), 32), ((8, 8), MOST_SAMPLES)]
)
def test_small_images_are_calibrated_over_more_samples(
    size: tuple[int, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from converter.core.samples import generate

    image = keras.Input((*size, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(2, 3, name="conv")(image))
    model = keras.Model(image, keras.layers.Dense(2, name="head")(pooled), name="net")
    asked: list[int] = []

    def inputs(specs: tuple[TensorSpec, ...], count: int, seed: int, ranges: Any) -> Any:
        asked.append(count)
        return generate(specs, count, seed, ranges)

    monkeypatch.setattr("converter.core.samples.generate", inputs)
    calibrated(model, "net", 0, {})
    assert asked == [expected]
