"""Which layer of a model raised an error: Keras's messages have the class of a layer, and not always its name."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from converter.core.foreign import KerasModel
from converter.core.text import reason_of

_WRAPPERS = re.compile(r".*(?:Error|Exception) encountered(?: when calling [^\n]*)?:", re.DOTALL)


@contextmanager
def whole_tracebacks() -> Iterator[None]:
    """Within the context, Keras leaves its own frames in tracebacks, and messages as the layers wrote them."""
    import keras

    before = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if before:
            keras.config.enable_traceback_filtering()


def failed_in(error: BaseException, model: KerasModel) -> str:
    """Where and why `model` raised `error`: "layer NAME (CLASS): reason", or the reason alone.

    The layer is the innermost one in the traceback but `model` itself; see `whole_tracebacks`.
    """
    import keras

    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.layers.Layer) and owner is not model and owner.name:
            found = owner
    reason = reason_of(type(error)(_WRAPPERS.sub("", str(error)).strip()) if _plain(error) else error)
    return reason if found is None else f"layer {found.name} ({type(found).__name__}): {reason}"


def _plain(error: BaseException) -> bool:
    """Whether `error` can be made again from its text."""
    return type(error) in (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError, IndexError)
