"""`converter.rewrite`: its result is compared as an artifact would be, on the logits and with controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import converter
from converter import rewrites
from converter.core.errors import ParityError

REAL = rewrites.rewrite


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


def slightly_wrong(model: Any, **options: Any) -> Any:
    """The rewrites, and then a head whose logits are 0.2 % off."""
    result = REAL(model, **options)
    head = result.model.get_layer("head")
    head.set_weights([values * 1.002 for values in head.get_weights()])
    return replace(result)


@pytest.mark.parametrize("spread", [0.5, 1e-3])
def test_logits_that_are_slightly_wrong_are_not_saved(
    spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small logits every probability is about 1/5, and 0.2 % of a logit changes it by less than 1e-6."""
    monkeypatch.setattr("converter.rewrites.rewrite", slightly_wrong)
    with pytest.raises(ParityError, match="nothing was saved"):
        converter.rewrite(lambda_groups(spread), tmp_path / "new.keras")
    assert list(tmp_path.iterdir()) == []


def test_a_correct_rewrite_is_saved(tmp_path: Path) -> None:
    result = converter.rewrite(lambda_groups(), tmp_path / "new.keras", samples=8)
    assert result.layers == (8, 5)
    assert result.difference["head"] < 1e-5
    assert not [warning for warning in result.warnings if "inconclusive" in warning]


def test_a_comparison_that_could_not_fail_is_reported(tmp_path: Path) -> None:
    """All logits are rounding error: any two samples look the same."""
    result = converter.rewrite(lambda_groups(1e-9), tmp_path / "new.keras")
    assert (tmp_path / "new.keras").is_file()
    assert [warning for warning in result.warnings if warning.startswith("the comparison is inconclusive: ")]
