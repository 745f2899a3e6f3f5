"""Seeded weights for an untrained source: how many samples they are calibrated over."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from converter.core.data import Array, TensorSpec
from converter.sources.untrained import MOST_SAMPLES, calibrated


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), 4), ((96, 96), 4), ((64, 64), 8), ((63, 64), 9), ((32, 32), 32), ((8, 8), MOST_SAMPLES)],
)
def test_small_images_are_calibrated_over_more_samples(
    size: tuple[int, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from converter.core.samples import generate

    image = keras.Input((*size, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(2, 3, name="conv")(image))
    model = keras.Model(image, keras.layers.Dense(2, name="head")(pooled), name="net")
    counts: list[int] = []

    def inputs(
        specs: tuple[TensorSpec, ...], count: int, seed: int, ranges: Mapping[str, tuple[float, float]] | None
    ) -> Mapping[str, Array]:
        counts.append(count)
        return generate(specs, count, seed, ranges)

    monkeypatch.setattr("converter.core.samples.generate", inputs)
    calibrated(model, "net", 0, {})
    assert counts == [expected]
