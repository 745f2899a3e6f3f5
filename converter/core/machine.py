"""The process and the machine: library versions, and memory given back to the system."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys

from converter.core.foreign import Facts
from converter.core.version import __version__

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
    """Versions of what took part, and the machine in words; nothing that identifies its owner."""
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


def give_memory_back() -> None:
    """Return freed memory to the system, where the C library can (glibc's malloc_trim); children will need it."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
