"""The runtimes that artifacts are verified in. To add one: a module with a `RUNTIME`, and a line in this table."""

from converter.core import Runtime
from converter.runtimes import run_litert, run_ort, run_tf

RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": run_ort.RUNTIME,
    "litert": run_litert.RUNTIME,
    "tensorflow": run_tf.RUNTIME,
}
