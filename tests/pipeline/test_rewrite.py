"""`converter.rewrite`: its result is compared as an artifact would be, on the logits and with controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converter
from converter.core.errors import ParityError
from converter.tracing import prediction

REAL = prediction.predict


def lambda_groups(spread: float = 0.5) -> Any:
    """Two groups of Lambda slices before a softmax whose logits have about this spread."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 4), name="image")
    slices = [layers.Lambda(lambda x, c=c: x[..., 2 * c : 2 * c + 2], name=f"slice_{c}")(image) for c in (0, 1)]
    parts = [layers.Conv2D(6, 3, name=f"conv_{index}")(part) for index, part in enumerate(slices)]
    x = layers.GlobalAveragePooling2D(name="pool")(layers.ReLU(name="relu")(layers.Concatenate(name="join")(parts)))
    kernel = keras.initializers.RandomNormal(stddev=spread, seed=4)
    x = layers.Dense(5, activation="softmax", kernel_initializer=kernel, name="head")(x)
    return keras.Model(image, x, name="net")


def slightly_wrong(model: Any, signature: Any, inputs: Any) -> dict[str, Any]:
    """Keras's predictions; those of the rewritten model as if its logits were 0.2 % off."""
    outputs = REAL(model, signature, inputs)
    if any(type(layer).__name__ == "Lambda" for layer in model.layers):
        return outputs
    powers = {name: array.astype(np.float64) ** 1.002 for name, array in outputs.items()}
    return {name: (each / each.sum(axis=-1, keepdims=True)).astype(np.float32) for name, each in powers.items()}


@pytest.mark.parametrize("spread", [0.5, 2e-3])
def test_logits_that_are_slightly_wrong_are_not_saved(
    spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small logits every probability is about 1/5, and 0.2 % of a logit changes it by about 1e-6."""
    monkeypatch.setattr(prediction, "predict", slightly_wrong)
    with pytest.raises(ParityError, match="nothing was saved"):
        converter.rewrite(lambda_groups(spread), tmp_path / "new.keras")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_below_the_resolution_of_a_probability_is_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight units in the last place of a probability are no failure, but they are told."""
    monkeypatch.setattr(prediction, "predict", slightly_wrong)
    result = converter.rewrite(lambda_groups(3e-4), tmp_path / "new.keras")
    (warning,) = [each for each in result.warnings if each.startswith("the comparison is inconclusive: ")]
    assert "relative L2 0.002" in warning


def test_a_correct_rewrite_is_saved(tmp_path: Path) -> None:
    result = converter.rewrite(lambda_groups(), tmp_path / "new.keras", samples=8)
    assert result.layers == (9, 5)
    assert result.difference["head"] < 1e-5
    assert not [warning for warning in result.warnings if "inconclusive" in warning]


def test_a_comparison_that_could_not_fail_is_reported(tmp_path: Path) -> None:
    """All logits are rounding error: any two samples look the same."""
    result = converter.rewrite(lambda_groups(1e-13), tmp_path / "new.keras")
    assert (tmp_path / "new.keras").is_file()
    assert [warning for warning in result.warnings if warning.startswith("the comparison is inconclusive: ")]
