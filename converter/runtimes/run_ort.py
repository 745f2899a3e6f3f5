"""onnxruntime on the CPU, on CUDA or with TensorRT: reads ONNX files. On a GPU there is no fallback to the CPU."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime, TensorSpec, Watched
from converter.core.errors import InputError, UnavailableError
from converter.core.foreign import Facts, Module, SessionOptions
from converter.core.protobuf import record
from converter.core.text import first_line, last_line
from converter.runtimes.shared.cuda import cuda_facts
from converter.runtimes.shared.installed import cpu_name, installed, missing
from converter.runtimes.shared.names import require_interface
from converter.runtimes.shared.onnx_records import copy_onnx, more_outputs, onnx_tensors

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cuda-tf32": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_HEAVY = {"Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul", "FusedGemm", "ConvTranspose", "NhwcConv"}
"""Operators with most of the arithmetic: on a GPU, none of them may run elsewhere"""

_MODULE = "onnxruntime"
_QUESTION = (
    "import json, sys; from converter.runtimes.run_ort import missing_device; "
    "print(json.dumps(missing_device(sys.argv[1]) or ''))"
)
"""The program of the child process that looks for a GPU"""

Placement = Mapping[str, Mapping[str, int]]
"""Number of nodes by provider and operator"""


def version() -> str | None:
    """The installed version, or None. onnxruntime itself is not imported."""
    return installed("onnxruntime", "onnxruntime-gpu") if missing(_MODULE, _MODULE) is None else None


def unavailable(device: str) -> str | None:
    """Why onnxruntime cannot run on `device` here, or None.

    onnxruntime is not imported: for a GPU, a child process loads a tiny model there to find out.
    """
    reason = missing(_MODULE, "onnxruntime-gpu")
    if reason or device == "cpu":
        return reason
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _QUESTION, device],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    try:
        return str(json.loads(done.stdout)) or None
    except ValueError:
        words = last_line(done.stderr.decode(errors="replace")) or f"status {done.returncode}"
        return f"onnxruntime ended the process that asked for {device}: {words}"


def warm() -> None:
    """Import onnxruntime."""
    import onnxruntime  # noqa: F401


def missing_device(device: str) -> str | None:
    """Why this process cannot use a GPU, or None, after a tiny model was loaded there."""
    import onnxruntime

    if _PROVIDERS[device] not in onnxruntime.get_available_providers():
        return f"this onnxruntime has no {_PROVIDERS[device]}; pip install onnxruntime-gpu"
    _load_cuda_libraries(onnxruntime)
    options = _session_options(onnxruntime, device)
    options.log_severity_level = 4
    onnxruntime.set_default_logger_severity(4)  # the reason is returned, not written to standard error
    try:
        session = onnxruntime.InferenceSession(
            _identity_model(), options, providers=[_PROVIDERS[device]], enable_fallback=0
        )
    except _errors() as error:
        return f"no usable {'TensorRT' if device == 'tensorrt' else 'CUDA device'}: {first_line(error)}"
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default
    if _PROVIDERS[device] not in session.get_providers():
        return f"onnxruntime could not start {_PROVIDERS[device]}; its libraries are missing"
    return None


def _unavailable_unoptimized(device: str) -> str | None:
    return unavailable(device) if device == "cpu" else "without optimizations, onnxruntime runs on the CPU only"


def prepare(path: Path, artifact: Artifact, device: str, *, optimized: bool = True) -> Prepared:
    """Load an ONNX file; `device` is "cpu", "cuda" (TF32 off), "cuda-tf32" or "tensorrt" (TF32 off).

    Without `optimized` the graph runs as it is in the file, so that a difference is due to the kernels and not to the
    optimizer. `facts` have the providers of the session and, after the first run, how many nodes of each operator ran
    in which provider. Raises UnavailableError for a missing device, InputError where onnxruntime refuses the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f"onnxruntime cannot be imported ({error}); pip install onnxruntime-gpu") from error
    if device == "tensorrt":  # its provider has no option for TF32; cuBLAS, cuDNN and TensorRT read this variable
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    reason = missing_device(device) if device != "cpu" else None
    if reason:
        raise UnavailableError(f"onnxruntime on {device}: {reason}")
    options = _session_options(onnxruntime, device)
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    profile = tempfile.TemporaryDirectory(prefix="cnnexport-")
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(profile.name) / "ort")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[_provider(device)], enable_fallback=0)
    except _errors() as error:
        raise InputError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    require_interface(path, artifact, [each.name for each in session.get_inputs()], names)
    facts: Facts = {
        "providers": session.get_providers(),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "optimizations": "all" if optimized else "none",
        "tf32": device == "cuda-tf32",
        "device_name": cpu_name(),
    }
    if device != "cpu":
        facts |= cuda_facts()  # with the GPU's name instead of the processor's

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            outputs = session.run(names, dict(inputs))
        except _errors() as error:
            raise InputError(f"{path}: onnxruntime cannot run it: {first_line(error)}") from error
        if "placement" not in facts:  # the profile of the first run has the provider of each node
            placement = _placement(Path(session.end_profiling()))
            profile.cleanup()
            facts["placement"] = placement
            facts["nodes"] = {provider: sum(found.values()) for provider, found in placement.items()}
            _require_device(placement, device)
        return dict(zip(names, outputs, strict=True))

    return Prepared(run, facts)


def tensors(
    path: Path,
    artifact: Artifact,
    device: str,
    wanted: Collection[str] | None,
    at_once: int,
    *,
    optimized: bool = True,
) -> Iterator[Watched]:
    """What nodes of an ONNX file compute: copies of the file, each with `at_once` of the tensors as further outputs.

    Only the further outputs of one copy are in memory at a time. Otherwise as `prepare`.
    """
    own = [spec.name for spec in artifact.outputs]
    names = [name for name in onnx_tensors(path) if name not in own and (wanted is None or name in wanted)]
    for start in range(0, max(1, len(names)), at_once):
        more = names[start : start + at_once]
        with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
            copy = Path(scratch, path.name)
            copy_onnx(path, copy)
            with copy.open("ab") as file:
                file.write(more_outputs(more))
            outputs = (*artifact.outputs, *(TensorSpec(name, ()) for name in more))
            yield _as_watched(prepare(copy, replace(artifact, outputs=outputs), device, optimized=optimized))


def _as_watched(prepared: Prepared) -> Watched:
    return lambda inputs: prepared.run(inputs).items()


def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own classes, which have no common base, and Python's for wrong arguments."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    return (RuntimeError, ValueError, *own)


def _provider(device: str) -> str | tuple[str, dict[str, str]]:
    """The execution provider for `device`, with TF32 on or off for CUDA."""
    name = _PROVIDERS[device]
    return (name, {"use_tf32": "1" if device == "cuda-tf32" else "0"}) if device.startswith("cuda") else name


def _session_options(onnxruntime: Module, device: str) -> SessionOptions:
    options = onnxruntime.SessionOptions()
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


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


def _placement(profile: Path) -> Placement:
    """Where each node ran, from onnxruntime's profile of one run; the profile is deleted."""
    events = json.loads(profile.read_text(encoding="utf-8", errors="replace"))  # names are those of the file
    profile.unlink(missing_ok=True)
    seen: dict[str, Counter[str]] = {}
    counted = set()
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and event.get("name", "").endswith("_kernel_time"):
            key = (event["name"], arguments.get("node_index"))
            if key not in counted:
                counted.add(key)
                seen.setdefault(arguments.get("provider", ""), Counter())[arguments.get("op_name", "")] += 1
    return {provider: dict(sorted(operators.items())) for provider, operators in sorted(seen.items())}


def _require_device(placement: Placement, device: str) -> None:
    """Raise UnavailableError where a heavy operator did not run on the GPU that was requested."""
    if device == "cpu":
        return
    strays = [
        f"{operator} on {provider}"
        for provider, operators in placement.items()
        for operator in operators
        if operator in _HEAVY and provider != _PROVIDERS[device]
    ]
    if strays or not placement.get(_PROVIDERS[device]):
        raise UnavailableError(f"onnxruntime did not run on {device} only: {', '.join(strays) or 'nothing ran there'}")


RUNTIME = Runtime(
    "onnxruntime", ("onnx",), ("cpu", "cuda", "cuda-tf32", "tensorrt"), version, unavailable, prepare, tensors, warm
)
WITHOUT_OPTIMIZATIONS = Runtime(
    "onnxruntime-noopt", ("onnx",), ("cpu",), version, _unavailable_unoptimized,
    functools.partial(prepare, optimized=False),
    functools.partial(tensors, optimized=False), warm,
)  # fmt: skip
"""The graph as it is in the file: a report with this row shows how much of an error is due to the optimizer"""
