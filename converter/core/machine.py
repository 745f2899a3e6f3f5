"""The environment of this process: library versions, the machine, and release of unused memory."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys

from converter.core.foreign import Facts
from converter.core.version import __version__

OWN_PROCESS = False
"""Whether this process is that of the command line, so that nothing of a caller's runs in it"""

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


def release_memory() -> None:
    """Return freed memory to the system for child processes, if the C library can (glibc's malloc_trim)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
