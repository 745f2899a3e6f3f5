"""Whether onnxruntime can use a GPU here, and why not: a tiny model is loaded there, in a child process if asked."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import re
import subprocess
import sys

from converter.core.foreign import Module
from converter.core.protobuf import record
from converter.core.text import first_line, last_line
from converter.runtimes.shared.installed import missing

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cuda-tf32": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
MODULE = "onnxruntime"
_QUESTION = (
    "import json, sys; from converter.runtimes.shared.onnxruntime_gpu import missing_device; "
    "print(json.dumps({name: missing_device(name, quiet=False) or '' for name in sys.argv[1:]}))"
)
"""The program of the child process that looks for a GPU"""

_CAUSES = (
    (re.compile(r"with error: (\S+): cannot open shared object"), "{} is missing; pip install 'cnnexport[cuda]'"),
    (re.compile(r"CUDA failure \d+: ([^;\n]+)"), "{}"),
)
"""What onnxruntime logs, and raises nowhere, when a GPU cannot be used; and the same in words"""


def unavailable(device: str) -> str | None:
    """Why onnxruntime cannot run on `device` here, or None.

    onnxruntime is not imported: for a GPU, a child process loads a tiny model there to find out. It looks for CUDA and
    TensorRT at once, and once for the GPUs that this process may use.
    """
    reason = missing(MODULE, "onnxruntime-gpu")
    if reason or device == "cpu":
        return reason
    return _gpu_reasons(os.environ.get("CUDA_VISIBLE_DEVICES")).get(device.removesuffix("-tf32")) or None


@functools.cache
def _gpu_reasons(_visible: str | None) -> dict[str, str]:
    """By device, why it cannot be used, "" if it can; `_visible` are the GPUs that the answer is for."""
    devices = ("cuda", "tensorrt")
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _QUESTION, *devices],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    try:
        found: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        words = last_line(said) or f"status {done.returncode}"
        return dict.fromkeys(devices, f"onnxruntime ended the process that asked for a GPU: {words}")
    cause = next((words.format(match[1].strip()) for pattern, words in _CAUSES if (match := pattern.search(said))), "")
    if found["cuda"] and cause:
        found["cuda"] = f"no usable CUDA device: {cause}"
    return found


def missing_device(device: str, *, quiet: bool = True) -> str | None:
    """Why this process cannot use a GPU, or None, after a tiny model was loaded there.

    Unless it is `quiet`, onnxruntime logs causes to standard error that it raises nowhere.
    """
    import onnxruntime

    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        return f"this onnxruntime has no {PROVIDERS[device]}; pip install onnxruntime-gpu"
    _load_cuda_libraries(onnxruntime)
    what = "TensorRT" if device == "tensorrt" else "CUDA device"
    if quiet:
        onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(_identity_model(), providers=[PROVIDERS[device]], enable_fallback=0)
    except errors() as error:
        absent = "Please install TensorRT" in str(error)
        return f"no usable {what}: {'its libraries are not installed' if absent else first_line(error)}"
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default
    if PROVIDERS[device] not in session.get_providers():
        return f"no usable {what}: onnxruntime could not start {PROVIDERS[device]}"
    return None


def errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own classes, which have no common base, and Python's for wrong arguments."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    return (RuntimeError, ValueError, *own)


def _load_cuda_libraries(onnxruntime: Module) -> None:
    """Load CUDA and cuDNN from the `nvidia` packages, or from an installed torch, where the system has none."""
    logger = logging.getLogger("onnxruntime")
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        printed = io.StringIO()  # it prints what it does not find, but standard output is for results
        try:
            with contextlib.redirect_stdout(printed):
                preload()
        except OSError as error:
            printed.write(str(error))
        logger.info("CUDA libraries: %s", printed.getvalue())


def _identity_model() -> bytes:
    """The smallest useful ModelProto, y = Abs(x) for one float, as bytes: the package onnx may be missing."""
    one = b"\x08\x01"  # field 1: the number 1
    kind = record(2, record(1, one + record(2, record(1, one))))  # float32, shape (1,)
    node = record(1, b"x") + record(2, b"y") + record(4, b"Abs")
    values = record(11, record(1, b"x") + kind) + record(12, record(1, b"y") + kind)
    graph = record(1, node) + record(2, b"probe") + values
    return b"\x08\x08" + record(7, graph) + record(8, record(1, b"") + b"\x10\x0d")  # IR version 8, opset 13
