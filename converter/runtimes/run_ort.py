"""onnxruntime on the CPU, on CUDA or with TensorRT: reads ONNX files.

On a GPU no heavy operator may fall back to the CPU. onnxruntime itself assigns what computes shapes to the CPU, also in
a session for CUDA, so the option that forbids all of it would refuse correct files of models with dynamic sizes.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime, TensorSpec, Watched
from converter.core.errors import InputError, UnavailableError
from converter.core.foreign import Facts
from converter.core.text import first_line
from converter.runtimes.shared.cuda import cuda_facts
from converter.runtimes.shared.installed import cpu_name, installed
from converter.runtimes.shared.names import require_interface
from converter.runtimes.shared.onnx_records import copy_onnx, more_outputs, onnx_tensors
from converter.runtimes.shared.onnx_rounded import rounded_copy
from converter.runtimes.shared.onnxruntime_gpu import MODULE, PROVIDERS, errors, missing_device, unavailable

_HEAVY = {
    "Conv", "ConvTranspose", "FusedConv", "NhwcConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Einsum",
    "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention",
}  # fmt: skip
"""Operators with most of the arithmetic: on a GPU, none of them may run elsewhere"""

Placement = Mapping[str, Mapping[str, int]]
"""Number of nodes by provider and operator"""


def version() -> str | None:
    """The installed version, or None. onnxruntime itself is not imported.

    It is read from the module: of the distributions onnxruntime and onnxruntime-gpu both may be installed, and either
    may be the one whose files are there.
    """
    found = importlib.util.find_spec(MODULE)
    if found is None or not found.origin:
        return None
    said = re.search(r'^__version__ = "([^"]+)"', Path(found.origin).read_text(errors="replace"), re.MULTILINE)
    return said[1] if said else installed("onnxruntime-gpu", "onnxruntime")


def warm() -> None:
    """Import onnxruntime."""
    import onnxruntime  # noqa: F401


def _unavailable_unoptimized(device: str) -> str | None:
    return unavailable(device) if device == "cpu" else "without optimizations, onnxruntime runs on the CPU only"


def prepare(path: Path, artifact: Artifact, device: str, *, optimized: bool = True, once: bool = False) -> Prepared:
    """Load an ONNX file; `device` is "cpu", "cuda" (TF32 off), "cuda-tf32" or "tensorrt" (TF32 off).

    Without `optimized` the graph runs as it is in the file, so that a difference is due to the kernels and not to the
    optimizer; `once` spares it copies of its weights that serve many runs. `facts` have the providers of the session
    and, after the first run, how many nodes of each operator ran in which provider. Raises UnavailableError for a
    missing device, InputError where onnxruntime refuses the file.
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
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if device != "cpu":  # cuDNN's attempts that it replaces by others are logged as errors
        onnxruntime.set_default_logger_severity(4)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", str(int(once)))
    profile = tempfile.TemporaryDirectory(prefix="cnnexport-")
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(profile.name) / "ort")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[_provider(device)], enable_fallback=0)
    except errors() as error:
        raise InputError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    require_interface(path, artifact, [each.name for each in session.get_inputs()], names)
    if PROVIDERS[device] not in session.get_providers():
        raise UnavailableError(f"onnxruntime on {device}: the session for {path} has no {PROVIDERS[device]}")
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
        except errors() as error:
            raise InputError(f"{path}: onnxruntime cannot run it: {first_line(error)}") from error
        if "placement" not in facts:  # the profile of the first run has the provider of each node
            placement = _placement(Path(session.end_profiling()))
            profile.cleanup()
            facts["placement"] = placement
            facts["nodes"] = {provider: sum(found.values()) for provider, found in placement.items()}
            _require_device(placement, device)
        return dict(zip(names, outputs, strict=True))

    return Prepared(run, facts)


def prepare_tf32(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load a copy of an ONNX file whose products are rounded as by TF32, without optimizations; as `prepare`."""
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        copy = Path(scratch, path.name)
        rounded_copy(path, copy)
        return prepare(copy, artifact, device, optimized=False)


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
            found = prepare(copy, replace(artifact, outputs=outputs), device, optimized=optimized, once=True)
            yield _as_watched(found)


def _as_watched(prepared: Prepared) -> Watched:
    return lambda inputs: prepared.run(inputs).items()


def _provider(device: str) -> str | tuple[str, dict[str, str]]:
    """The execution provider for `device`, with TF32 on or off for CUDA."""
    name = PROVIDERS[device]
    return (name, {"use_tf32": "1" if device == "cuda-tf32" else "0"}) if device.startswith("cuda") else name


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
        if operator in _HEAVY and provider != PROVIDERS[device]
    ]
    if strays or not placement.get(PROVIDERS[device]):
        why = "it has no kernel there for this use of the operator; verify without --device cuda" if strays else ""
        found = ", ".join(strays) or "nothing ran there"
        raise UnavailableError(f"onnxruntime did not run on {device} only: {found}" + (why and f"\n{why}"))


RUNTIME = Runtime(
    "onnxruntime", ("onnx",), ("cpu", "cuda", "cuda-tf32", "tensorrt"), version, unavailable, prepare, tensors, warm
)
WITHOUT_OPTIMIZATIONS = Runtime(
    "onnxruntime-noopt", ("onnx",), ("cpu",), version, _unavailable_unoptimized,
    functools.partial(prepare, optimized=False),
    functools.partial(tensors, optimized=False), warm,
)  # fmt: skip
"""The graph as it is in the file: a report with this row shows how much of an error is due to the optimizer"""
TF32_ON_CPU = Runtime("onnxruntime-tf32", ("onnx",), ("cpu",), version, unavailable, prepare_tf32, warm=warm)
"""What TF32 makes of a file, computed on the CPU: no artifact is proven in it, see `converter.proof.tf32`"""
