"""The runtimes that artifacts are verified in. To add one: a module with a `RUNTIME`, and a line in this table.

An export is proven in the first runtime that reads its format.
"""

from collections import ChainMap
from collections.abc import Mapping
from typing import TypedDict

from converter.core.data import Runtime
from converter.runtimes import (
    run_litert,
    run_ncnn,
    run_opencv,
    run_openvino,
    run_ort,
    run_server,
    run_tf,
    run_tract,
)
from converter.runtimes.javascript import run_chromium, run_node

RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": run_ort.RUNTIME,
    "onnxruntime-noopt": run_ort.WITHOUT_OPTIMIZATIONS,
    "litert": run_litert.RUNTIME,
    "tensorflow": run_tf.RUNTIME,
    "openvino": run_openvino.RUNTIME,
    "opencv": run_opencv.RUNTIME,
    "tract": run_tract.RUNTIME,
    "ncnn": run_ncnn.RUNTIME,
    "onnxruntime-node": run_node.NODE,
    "onnxruntime-web": run_node.WEB_IN_NODE,
    "chromium": run_chromium.RUNTIME,
}

SERVER = run_server.NAME
TF32_ON_CPU = run_ort.TF32_ON_CPU.name
RUNNERS: Mapping[str, Runtime] = ChainMap(RUNTIMES, {SERVER: run_server.RUNTIME, TF32_ON_CPU: run_ort.TF32_ON_CPU})
"""What runs artifacts: the runtimes, a model in a server, whose "device" is its address, and TF32 on the CPU"""

DEVICES = ("cpu", "cuda")
"""The values of `--device`"""

TENSORRT = "tensorrt"
CUDA_TF32 = "cuda-tf32"
ON_GPU = ("cuda", CUDA_TF32, TENSORRT)
"""How onnxruntime runs for "cuda": with TF32 off, with TF32 on, and with TensorRT where that is installed"""


class RuntimeState(TypedDict):
    """A runtime on this machine; `reason` is why it is not available on the CPU, "" if it is."""

    name: str
    version: str | None
    reads: list[str]
    available: bool
    reason: str


def overview() -> list[RuntimeState]:
    """The state of every runtime, in the order of `RUNTIMES`."""
    rows = []
    for name, runtime in RUNTIMES.items():
        reason = runtime.unavailable("cpu")
        rows.append(
            RuntimeState(
                name=name,
                version=runtime.version(),
                reads=list(runtime.reads),
                available=reason is None,
                reason=reason or "",
            )
        )
    return rows
