"""TensorFlow for the line: imported without messages and without a GPU; and `tf.function`s run as plain Python.

Nothing here knows a model or a graph.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.core import machine
from converter.core.errors import UnavailableError
from converter.core.foreign import Scope

_WHEN_IMPORTED: list[Callable[[bool], None]] = []


def quick_keras() -> None:
    """Import TensorFlow quietly, and Keras: in a process of the command line, without what it only looks for.

    For models that are made of Keras alone; a user's own code may need Keras's wrappers. Raises UnavailableError.
    """
    with machine.quick_imports():
        quiet_tensorflow()
        import keras  # noqa: F401


def quiet_tensorflow() -> None:
    """Import TensorFlow without its start-up messages and without a GPU; the second call does nothing.

    Its native libraries write to file descriptor 2 before any logging level applies, so the descriptor points to the
    null device while they load. Raises UnavailableError where TensorFlow cannot be imported.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
            import tensorflow as tf

            tf.config.list_physical_devices()
    except ImportError as error:
        raise UnavailableError(f"tensorflow cannot be imported: {error}\npip install cnnexport") from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.environ.pop("CUDA_VISIBLE_DEVICES")  # the child processes that verify artifacts may use the GPU
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
    machine.keep_imported()
    for action in _WHEN_IMPORTED:
        action(True)
    _WHEN_IMPORTED.clear()


@contextmanager
def when_imported(action: Callable[[bool], None]) -> Iterator[None]:
    """Within the context, `action` is called as soon as `quiet_tensorflow` has imported it, or at once if it is there.

    It learns whether TensorFlow was only imported and has done nothing yet.
    """
    if "tensorflow" in sys.modules:
        action(False)
    else:
        _WHEN_IMPORTED.append(action)
    try:
        yield
    finally:
        _WHEN_IMPORTED.clear()


@contextmanager
def legal_scopes() -> Iterator[None]:
    """Within the context, Keras runs models whose layers have names that TensorFlow refuses, with a space or an umlaut.

    TensorFlow takes the name of a layer as the name of a scope; Keras's other backends take any.
    """
    import tensorflow as tf
    from keras.src.backend.tensorflow import core

    from converter.tracing.signature import legal_name

    def begin(scope: Scope, name: str, **settings: object) -> None:
        original(scope, name, **settings)
        scope._tf_name_scope = tf.name_scope(legal_name(name))

    if not hasattr(core, "name_scope"):
        yield
        return
    before, original = core.name_scope.__init__, core.base_name_scope.__init__
    core.name_scope.__init__ = begin
    try:
        yield
    finally:
        core.name_scope.__init__ = before


@contextmanager
def inlined_functions() -> Iterator[None]:
    """Within the context, inner `tf.function`s run as plain Python.

    In a trace, Keras's XLA wrappers then leave nothing in the graph; in an eager call, TensorFlow's own kernels run
    instead of compiled ones.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
