"""A trained model as a file, without what only training needs."""

from __future__ import annotations

import secrets
from pathlib import Path

from converter.core.foreign import KerasModel


def save_model(model: KerasModel, path: Path) -> None:
    """Save `model` without the state of its optimizer, which takes twice the room of the weights."""
    import keras

    model.compile(optimizer=keras.optimizers.SGD())
    temporary = path.with_name(f"partial-{secrets.token_hex(4)}.keras")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
