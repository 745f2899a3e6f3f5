"""The environment of this process: library versions, the machine, and release of unused memory."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from converter.core.foreign import Facts
from converter.core.version import __version__

OWN_PROCESS = False
"""Whether this process is that of the command line or a child of it, so that nothing of a caller's runs in it"""

LOOKED_FOR = ("sklearn", "pandas", "matplotlib", "cv2")
"""Libraries that Keras imports where they are installed, for wrappers, plots and boxes: a second or more"""

_LIBRARIES = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "ai-edge-litert",
    "numpy",
)


def describe() -> Facts:
    """Versions of the libraries and a short description of the machine; contains nothing that identifies its owner."""
    versions = {"cnnexport": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def own_process() -> None:
    """Note that this process is one of ours; before numpy is imported.

    Garbage is collected less often in it: TensorFlow creates hundreds of thousands of objects that stay. The threads of
    OpenBLAS, of which numpy and SciPy have one each, sleep at once where nothing is to be done: by default each keeps a
    core busy for a while. Child processes inherit that.
    """
    global OWN_PROCESS
    OWN_PROCESS = True
    gc.set_threshold(50_000, 20, 20)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles


def keep_imported() -> None:
    """In a process of ours, look for garbage among later objects only: what was imported so far stays."""
    if OWN_PROCESS:
        gc.freeze()


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within the context, in a process of ours, TensorFlow and Keras are imported without what Keras only looks for."""
    hidden = [name for name in LOOKED_FOR if OWN_PROCESS and name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def release_memory() -> None:
    """Return freed memory to the system for child processes, if the C library can (glibc's malloc_trim)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
