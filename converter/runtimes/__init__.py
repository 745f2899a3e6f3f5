"""The runtimes that artifacts are verified in. To add one: a module with a `RUNTIME`, and a line in this table."""

from converter.core import Runtime
from converter.runtimes import run_litert, run_ort, run_tf

RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": run_ort.RUNTIME,
    "litert": run_litert.RUNTIME,
    "tensorflow": run_tf.RUNTIME,
}

DEVICES = ("cpu", "cuda")
"""What `--device` takes. On "cuda" onnxruntime runs twice, with TF32 off ("cuda") and on ("cuda-tf32")."""
