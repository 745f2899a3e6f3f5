"""onnxruntime, on the CPU, on CUDA or with TensorRT. On a GPU it never falls back: it runs there or is refused."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime, TensorSpec, Watched
from converter.core.errors import InputError, UnavailableError
from converter.core.text import first_line
from converter.runtimes.shared.cuda import cuda_facts
from converter.runtimes.shared.installed import cpu_name, require_names
from converter.runtimes.shared.onnx_records import more_outputs, onnx_tensors

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cuda-tf32": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_HEAVY = {"Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul", "FusedGemm", "ConvTranspose", "NhwcConv"}


def version() -> str | None:
    """The installed version, or None."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__)


def unavailable(device: str) -> str | None:
    """Why onnxruntime cannot run on `device` here, or None. On a GPU a tiny model is really loaded."""
    try:
        import onnxruntime
    except ImportError as error:
        return f"onnxruntime cannot be imported ({error}); pip install onnxruntime-gpu"
    if device == "cpu":
        return None
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
    return unavailable(device) if device == "cpu" else "the graph as it is written runs on the CPU only"


def prepare(path: Path, artifact: Artifact, device: str, *, optimized: bool = True) -> Prepared:
    """Load an ONNX file; `device` is "cpu", "cuda" (TF32 off), "cuda-tf32" or "tensorrt" (TF32 off).

    Without `optimized` the graph runs as it is written, so that a difference is the kernels' and not the optimizer's.
    `facts` tell the providers of the session, and after the first run how many nodes of which operator ran where.
    Raises UnavailableError for a missing device, InputError for a file it refuses.
    """
    import onnxruntime

    if device == "tensorrt":  # its provider has no option for it; cuBLAS, cuDNN and TensorRT heed this variable
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    reason = unavailable(device) if device != "cpu" else None
    if reason:
        raise UnavailableError(f"onnxruntime on {device}: {reason}")
    options = _session_options(onnxruntime, device)
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    profile = tempfile.TemporaryDirectory(prefix="cnnexport-")
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(profile.name) / "ort")
    provider: Any = _PROVIDERS[device]
    if device.startswith("cuda"):
        provider = (provider, {"use_tf32": "1" if device == "cuda-tf32" else "0"})
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider], enable_fallback=0)
    except _errors() as error:
        raise InputError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    require_names(path, "input", [spec.name for spec in artifact.inputs], [each.name for each in session.get_inputs()])
    require_names(path, "output", [spec.name for spec in artifact.outputs], names)
    facts: dict[str, Any] = {
        "providers": session.get_providers(),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "optimizations": "all" if optimized else "none",
        "tf32": device == "cuda-tf32",
        "device_name": cpu_name(),
    }
    if device != "cpu":
        facts |= cuda_facts()  # with the GPU's name instead of the processor's
    placed = False

    def run(inputs: Arrays) -> dict[str, Array]:
        nonlocal placed
        try:
            outputs = session.run(names, dict(inputs))
        except _errors() as error:
            raise InputError(f"{path}: onnxruntime cannot run it: {first_line(error)}") from error
        if not placed:  # the profile of the first run says where each node ran
            placed = True
            facts["placement"] = _placement(Path(session.end_profiling()))
            facts["nodes"] = {provider: sum(found.values()) for provider, found in facts["placement"].items()}
            profile.cleanup()
            _require_device(facts["placement"], device)
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
    """What nodes of an ONNX file compute: copies of it, each with `at_once` of the tensors as additional outputs.

    As `prepare` otherwise. Only what one copy adds is in memory at a time.
    """
    own = [spec.name for spec in artifact.outputs]
    names = [name for name in onnx_tensors(path) if name not in own and (wanted is None or name in wanted)]
    for start in range(0, max(1, len(names)), at_once):
        more = names[start : start + at_once]
        with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
            copy = Path(scratch, path.name)
            shutil.copyfile(path, copy)
            sidecar = path.with_name(path.name + ".data")
            if sidecar.is_file():
                shutil.copyfile(sidecar, copy.with_name(sidecar.name))
            with copy.open("ab") as file:
                file.write(more_outputs(more))
            outputs = (*artifact.outputs, *(TensorSpec(name, ()) for name in more))
            yield _as_watched(prepare(copy, replace(artifact, outputs=outputs), device, optimized=optimized))


def _as_watched(prepared: Prepared) -> Watched:
    return lambda inputs: prepared.run(inputs).items()


def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes of its own without a common base, and Python's for wrong arguments."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    return (RuntimeError, ValueError, *own)


def _session_options(onnxruntime: Any, device: str) -> Any:
    options = onnxruntime.SessionOptions()
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _load_cuda_libraries(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN from the `nvidia` packages (or an installed torch's), where the system has none."""
    logger = logging.getLogger("onnxruntime")
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        printed = io.StringIO()  # it tells by print what it does not find, and standard output is not its own
        try:
            with contextlib.redirect_stdout(printed):
                preload()
        except OSError as error:
            printed.write(str(error))
        logger.info("CUDA libraries: %s", printed.getvalue())


def _identity_model() -> bytes:
    """The smallest useful ModelProto (y = Abs(x), one float), spelled out so that this module needs no onnx package."""
    value = b"\x0a\x01%s\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"
    node = b"\x0a\x01x\x12\x01y\x22\x03Abs"
    given, returned = value.replace(b"%s", b"x"), value.replace(b"%s", b"y")
    graph = b"".join(
        tag + bytes([len(part)]) + part
        for tag, part in ((b"\x0a", node), (b"\x12", b"probe"), (b"\x5a", given), (b"\x62", returned))
    )
    return b"\x08\x08" + b"\x3a" + bytes([len(graph)]) + graph + b"\x42\x04\x0a\x00\x10\x0d"


def _placement(profile: Path) -> dict[str, dict[str, int]]:
    """Provider -> operator -> number of nodes, from onnxruntime's profile of one run."""
    events = json.loads(profile.read_text(encoding="utf-8"))
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


def _require_device(placement: Mapping[str, Mapping[str, int]], device: str) -> None:
    if device == "cpu":
        return
    strays = [
        f"{operator} on {provider}"
        for provider, operators in placement.items()
        for operator in operators
        if operator in _HEAVY and provider != _PROVIDERS[device]
    ]
    if strays or not placement.get(_PROVIDERS[device]):
        raise UnavailableError(f"onnxruntime did not stay on {device}: {', '.join(strays) or 'nothing ran there'}")


RUNTIME = Runtime(
    "onnxruntime", ("onnx",), ("cpu", "cuda", "cuda-tf32", "tensorrt"), version, unavailable, prepare, tensors
)
WITHOUT_OPTIMIZATIONS = Runtime(
    "onnxruntime-noopt", ("onnx",), ("cpu",), version, _unavailable_unoptimized,
    functools.partial(prepare, optimized=False),
    functools.partial(tensors, optimized=False),
)  # fmt: skip
"""The graph as it stands in the file: with it, the report tells the optimizer's share of an error."""
