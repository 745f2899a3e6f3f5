"""How long each format takes to write, and how much memory, here and by Keras's own `model.export`.

    python tests/benchmarks/export_speed.py [NAME ...] [--repeat N] [--json FILE] [--memory-limit GB]

Each measurement has a fresh process of its own, which builds the zoo's model NAME from seed 0 with Keras's initial
weights, calls it once, and then exports it once; the clock runs over the export alone, with every import that it makes.
"ours" is the trace and the writer. A format exported alone needs both; all three together need one trace, and are
measured so, in one process. Keras's three are three calls, so their times are added. Rewriting and the proof are left
out: Keras has neither. With --repeat the fastest of N counts, for both sides: what else the machine does only adds.
Memory is the peak of VmHWM during the export, reset at its start, and what of it is above VmRSS before.

Every file is then loaded and run on one input in yet another process: "invalid" in the table is that process's error.
A process beyond the memory or the time limit is killed, and the table says so. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("resnet50", "resnext50", "vgg16")
FORMATS = ("onnx", "tflite", "saved-model")
KERAS = {"onnx": "onnx", "tflite": "litert", "saved-model": "tf_saved_model"}
FILES = {"onnx": "model.onnx", "tflite": "model.tflite", "saved-model": "saved_model"}
GIGABYTE = 1e9
INTERVAL = 0.2  # seconds between two looks at a child's memory


@dataclass(frozen=True)
class Measured:
    """One export. `trace` is the part of `seconds` that went into the trace; None for Keras, which does not tell."""

    model: str
    tool: str  # "ours" or "keras"
    formats: tuple[str, ...]
    seconds: float
    trace: float | None = None
    built: float | None = None  # bytes that the process held before
    peak: float | None = None  # bytes at the peak
    failure: str = ""  # why there is no file
    invalid: str = ""  # why the file cannot be used

    @property
    def above(self) -> float | None:
        return None if self.peak is None or self.built is None else self.peak - self.built


# The children


def export_in_child(job: dict[str, Any]) -> dict[str, Any]:
    """Build job["model"], export it to job["directory"], and tell what it took."""
    import keras
    import numpy as np

    from zoo import MODELS

    keras.utils.set_random_seed(0)
    spec = MODELS[job["model"]]
    model = spec.build()
    model(np.zeros((1, *spec.input_shape), np.float32))  # Keras's ONNX export refuses a model that was never called
    built = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    started = time.perf_counter()
    trace_seconds = None
    if job["tool"] == "keras":
        (kind,) = job["formats"]
        model.export(Path(job["directory"], FILES[kind]), format=KERAS[kind], verbose=False)
    else:
        trace_seconds = export_ours(model, job["formats"], Path(job["directory"]))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "trace": trace_seconds, "built": built, "peak": memory("VmHWM")}


def export_ours(model: Any, kinds: Sequence[str], directory: Path) -> float:
    """Seconds of the trace."""
    from converter.core.data import WriteOptions
    from converter.formats import FORMATS as WRITERS
    from converter.tracing.signature import describe
    from converter.tracing.trace import trace

    started = time.perf_counter()
    traced = trace(model, describe(model))
    seconds = time.perf_counter() - started
    for kind in kinds:
        WRITERS[kind].write(traced, directory, WriteOptions())
    return seconds


def check_in_child(job: dict[str, Any]) -> dict[str, Any]:
    """Load the file and run it on one input; raises whatever the runtime raises."""
    import numpy as np

    from zoo import MODELS

    spec = MODELS[job["model"]]
    image = np.random.default_rng(0).random((1, *spec.input_shape), np.float32)
    (kind,) = job["formats"]
    outputs = RUN[kind](str(Path(job["directory"], FILES[kind])), image)
    finite = len(outputs) == len(spec.outputs) and all(np.isfinite(array).all() for array in outputs)
    return {} if finite else {"invalid": "its outputs are missing or not finite"}


def run_onnx(path: str, image: Any) -> list[Any]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: image}))


def run_tflite(path: str, image: Any) -> list[Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]


def run_saved_model(path: str, image: Any) -> list[Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]
    (name,) = function.structured_input_signature[1]
    return [tensor.numpy() for tensor in function(**{name: tf.constant(image)}).values()]


RUN = {"onnx": run_onnx, "tflite": run_tflite, "saved-model": run_saved_model}


def memory(field: str, process: int | str = "self") -> float:
    """Bytes of a VmXXX line in /proc/PROCESS/status; 0 once the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


# The parent


def in_child(job: dict[str, Any], memory_limit: float, time_limit: float) -> dict[str, Any]:
    """The child's answer, or {"failure": ..., "seconds": ...}."""
    answer = Path(job["directory"], "answer.json")
    log = Path(job["directory"], "log.txt")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(job)], stdout=stream, stderr=stream, env=environment
        )
        killed, highest = "", 0.0
        while child.poll() is None:
            time.sleep(INTERVAL)
            held, elapsed = memory("VmRSS", child.pid), time.perf_counter() - started
            highest = max(highest, held)
            if held > memory_limit:
                killed = f"killed at {held / GIGABYTE:.1f} GB after {elapsed:.0f} s"
            elif elapsed > time_limit:
                killed = f"killed after {elapsed:.0f} s"
            if killed:
                child.kill()
                child.wait()
    seconds = time.perf_counter() - started
    if killed:
        return {"failure": killed, "seconds": seconds, "peak": highest}
    if child.returncode != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return {"failure": (lines[-1] if lines else f"status {child.returncode}")[:200], "seconds": seconds}
    found: dict[str, Any] = json.loads(answer.read_text())
    answer.unlink()
    return found


def measure(model: str, tool: str, formats: tuple[str, ...], memory_limit: float, time_limit: float) -> Measured:
    """One export in a process of its own, its files checked in others."""
    with tempfile.TemporaryDirectory(prefix="export-speed-") as directory:
        job = {"do": "export", "model": model, "tool": tool, "formats": formats, "directory": directory}
        found = in_child(job, memory_limit, time_limit)
        invalid = []
        for kind in () if "failure" in found else formats:
            checked = in_child({**job, "do": "check", "formats": [kind]}, memory_limit, time_limit)
            reason = checked.get("failure") or checked.get("invalid")
            invalid += [f"{kind}: {reason}"] if reason else []
    return Measured(model, tool, formats, invalid="; ".join(invalid), **found)


def measure_model(model: str, repeat: int, memory_limit: float, time_limit: float) -> Iterator[Measured]:
    """The fastest of `repeat` for each format and tool; a failure is not tried again."""
    plan: list[tuple[str, tuple[str, ...]]] = [(tool, (kind,)) for kind in FORMATS for tool in ("ours", "keras")]
    for tool, formats in [*plan, ("ours", FORMATS)]:
        found = [measure(model, tool, formats, memory_limit, time_limit)]
        while len(found) < repeat and not found[0].failure:
            found.append(measure(model, tool, formats, memory_limit, time_limit))
        yield min(found, key=lambda each: (bool(each.failure), each.seconds))


def seconds_of(measured: Measured) -> str:
    if measured.failure:
        return "-"
    trace = "" if measured.trace is None else f" ({measured.trace:.2f} + {measured.seconds - measured.trace:.2f})"
    return f"{measured.seconds:.2f}{trace}"


def memory_of(measured: Measured) -> str:
    if measured.peak is None:
        return "-"
    above = "" if measured.above is None else f" (+{measured.above / GIGABYTE:.2f})"
    return f"{measured.peak / GIGABYTE:.2f}{above}"


def note_of(measured: Measured) -> str:
    who = "Keras" if measured.tool == "keras" else "ours"
    if measured.failure:
        return f"{who}: {measured.failure}"
    return f"{who} writes an invalid file: {measured.invalid}" if measured.invalid else ""


def rows_of(model: str, results: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    """One row per format and one for the three together."""
    by = {(each.tool, each.formats): each for each in results}
    for kind in FORMATS:
        ours, keras = by["ours", (kind,)], by["keras", (kind,)]
        ratio = "-" if ours.failure or keras.failure else f"{keras.seconds / ours.seconds:.1f}x"
        notes = "; ".join(filter(None, map(note_of, (keras, ours))))
        yield model, kind, seconds_of(ours), seconds_of(keras), ratio, memory_of(ours), memory_of(keras), notes
    together = by["ours", FORMATS]
    parts = [by["keras", (kind,)] for kind in FORMATS]
    dead = [each for each in parts if each.failure]
    total = sum(each.seconds for each in parts if not each.failure)
    ratio = "-" if together.failure else f"{'> ' if dead else ''}{total / together.seconds:.1f}x"
    note = f"without Keras's {', '.join(each.formats[0] for each in dead)}" if dead else ""
    notes = "; ".join(filter(None, (note, note_of(together))))
    yield model, "all three", seconds_of(together), f"{total:.2f}", ratio, memory_of(together), "-", notes


HEADER = ("model", "format", "ours s (trace + write)", "Keras s", "ratio", "ours GB (above model)", "Keras GB", "note")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [HEADER, tuple("-" * len(name) for name in HEADER), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER) - 1)]
    return "\n".join(
        "| " + " | ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) + " |"
        for line in lines
    )


def targets(results: Sequence[Measured]) -> Iterator[str]:
    """The project's targets, for those of them that were measured."""
    by = {(each.model, each.tool, each.formats): each for each in results if not each.failure}

    def say(name: str, value: float, bound: float, unit: str, at_least: bool) -> str:
        met = value >= bound if at_least else value <= bound
        sign = ">=" if at_least else "<="
        return f"{name}: {value:.2f}{unit}, target {sign} {bound:g}{unit}: {'met' if met else 'MISSED'}"

    ours, keras = by.get(("resnet50", "ours", ("onnx",))), by.get(("resnet50", "keras", ("onnx",)))
    if ours and keras:
        yield say("resnet50 ONNX against Keras", keras.seconds / ours.seconds, 8, "x", True)
    together = by.get(("resnet50", "ours", FORMATS))
    parts = [by.get(("resnet50", "keras", (kind,))) for kind in FORMATS]
    if together and all(parts):
        total = sum(each.seconds for each in parts if each)
        yield say("resnet50, three formats, against Keras", total / together.seconds, 4, "x", True)
    large = by.get(("vgg16", "ours", ("onnx",)))
    if large and large.above is not None:
        yield say("vgg16 ONNX", large.seconds, 6, " s", False)
        yield say("vgg16 ONNX above the built model", large.above / GIGABYTE, 2.5, " GB", False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models of the zoo [default: {' '.join(NAMES)}]")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="times each export is measured [default: 1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement to FILE")
    parser.add_argument("--memory-limit", type=float, default=16.0, metavar="GB", help="of each process [default: 16]")
    parser.add_argument("--time-limit", type=float, default=600.0, metavar="SECONDS", help="[default: 600]")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        job = json.loads(arguments.child)
        answer = export_in_child(job) if job["do"] == "export" else check_in_child(job)
        Path(job["directory"], "answer.json").write_text(json.dumps(answer))
        return
    results: list[Measured] = []
    rows: list[tuple[str, ...]] = []
    for name in arguments.names or NAMES:
        of_model = []
        limits = arguments.memory_limit * GIGABYTE, arguments.time_limit
        for each in measure_model(name, arguments.repeat, *limits):
            seconds = each.failure or f"{each.seconds:.2f} s"
            print(f"{name} {each.tool} {', '.join(each.formats)}: {seconds}", file=sys.stderr, flush=True)
            of_model.append(each)
        results += of_model
        rows += rows_of(name, of_model)
    print(table(rows))
    for line in targets(results):
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=2))


if __name__ == "__main__":
    main()
