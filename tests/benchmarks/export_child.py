"""One measurement of `export_speed.py`, in a process of its own: `python export_child.py JOB` with a `Job` as JSON.

It exports a model and measures time and memory, or it loads a written file and runs it once. Linux only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.core.data import Array
    from converter.core.foreign import JsonObject, KerasModel

KERAS = {"onnx": "onnx", "tflite": "litert", "saved-model": "tf_saved_model"}
FILES = {"onnx": "model.onnx", "tflite": "model.tflite", "saved-model": "saved_model"}
ANSWER = "answer.json"  # in the job's directory


@dataclass(frozen=True)
class Job:
    """What the child does: "export" a model with a tool ("ours" or "keras"), or "check" the one format it wrote."""

    do: str
    model: str
    tool: str
    formats: tuple[str, ...]
    directory: str


def export(job: Job) -> JsonObject:
    """Build the model and export it: seconds (of the trace: `trace`), bytes before (`built`) and at the peak."""
    import keras
    import numpy as np

    from zoo import MODELS

    keras.utils.set_random_seed(0)
    spec = MODELS[job.model]
    model = spec.build()
    model(np.zeros((1, *spec.input_shape), np.float32))  # Keras's ONNX export refuses a model that was never called
    built = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    started = time.perf_counter()
    trace_seconds = None
    if job.tool == "keras":
        (kind,) = job.formats
        model.export(Path(job.directory, FILES[kind]), format=KERAS[kind], verbose=False)
    else:
        trace_seconds = export_ours(model, job.formats, Path(job.directory))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "trace": trace_seconds, "built": built, "peak": memory("VmHWM")}


def export_ours(model: KerasModel, kinds: Sequence[str], directory: Path) -> float:
    """Trace and write; returns the seconds of the trace."""
    from converter.core.data import WriteOptions
    from converter.formats import FORMATS
    from converter.tracing.signature import describe
    from converter.tracing.trace import trace

    started = time.perf_counter()
    traced = trace(model, describe(model))
    seconds = time.perf_counter() - started
    for kind in kinds:
        FORMATS[kind].write(traced, directory, WriteOptions())
    return seconds


def check(job: Job) -> JsonObject:
    """Load the file and run it on one input; raises what the runtime raises."""
    import numpy as np

    from zoo import MODELS

    spec = MODELS[job.model]
    image = np.random.default_rng(0).random((1, *spec.input_shape), np.float32)
    (kind,) = job.formats
    outputs = RUN[kind](str(Path(job.directory, FILES[kind])), image)
    finite = len(outputs) == len(spec.outputs) and all(np.isfinite(array).all() for array in outputs)
    return {} if finite else {"invalid": "its outputs are missing or not finite"}


def run_onnx(path: str, image: Array) -> list[Array]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: image}))


def run_tflite(path: str, image: Array) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]


def run_saved_model(path: str, image: Array) -> list[Array]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]
    (name,) = function.structured_input_signature[1]
    return [tensor.numpy() for tensor in function(**{name: tf.constant(image)}).values()]


RUN = {"onnx": run_onnx, "tflite": run_tflite, "saved-model": run_saved_model}


def memory(field: str, process: int | str = "self") -> float:
    """Bytes of a VmXXX line in /proc/PROCESS/status; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    answer = export(job) if job.do == "export" else check(job)
    Path(job.directory, ANSWER).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
