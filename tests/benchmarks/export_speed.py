"""How long each format takes to write, and how much memory, by cnnexport and by Keras's own `model.export`.

    python tests/benchmarks/export_speed.py [NAME ...] [--repeat N] [--json FILE] [--memory-limit GB]

Each measurement runs in a new process (`export_child.py`), which builds the zoo's model NAME from seed 0 with Keras's
initial weights, calls it once, and then exports it once; measured is the export alone, with every import that it makes.
"ours" is the trace and the writer. A format exported alone needs both; all three together share one trace, and are
measured in one process. Keras's three are three calls, so their times are added. Rewriting and the proof are not
measured: Keras has neither. With --repeat the fastest of N counts, for both sides: other load on the machine only adds.
Memory is the peak of VmHWM during the export, reset at its start, and the part of it that is above VmRSS before.

Every file is then loaded and run on one input in another process: "invalid" in the table is that process's error.
A process above the memory or time limit is killed, and the table says so. Linux only.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import export_child
from export_child import Job, memory

if TYPE_CHECKING:
    from converter.core.foreign import JsonObject

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("resnet50", "resnext50", "vgg16")
FORMATS = ("onnx", "tflite", "saved-model")
GIGABYTE = 1e9
INTERVAL = 0.2  # seconds between two readings of a child's memory


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds above which a process is killed."""

    memory: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """One export. `trace` is the part of `seconds` that the trace took; None for Keras, which does not report it."""

    model: str
    tool: str  # "ours" or "keras"
    formats: tuple[str, ...]
    seconds: float
    trace: float | None = None
    built: float | None = None  # bytes of the process before
    peak: float | None = None  # bytes at the peak
    failure: str = ""  # why there is no file
    invalid: str = ""  # why the file cannot be used

    @property
    def above(self) -> float | None:
        return None if self.peak is None or self.built is None else self.peak - self.built


def limited(command: Sequence[str], directory: Path, limits: Limits) -> JsonObject:
    """Run a command within `limits`: empty if it ended well, else {"failure": ..., "seconds": ...}."""
    log = directory / "log.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    with log.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        killed, highest = "", 0.0
        while child.poll() is None:
            time.sleep(INTERVAL)
            used, elapsed = memory("VmRSS", child.pid), time.perf_counter() - started
            highest = max(highest, used)
            if used > limits.memory:
                killed = f"killed at {used / GIGABYTE:.1f} GB after {elapsed:.0f} s"
            elif elapsed > limits.seconds:
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
    return {}


def in_child(job: Job, limits: Limits) -> JsonObject:
    """The child's answer, or {"failure": ..., "seconds": ...}."""
    answer = Path(job.directory, export_child.ANSWER)
    ended = limited([sys.executable, export_child.__file__, json.dumps(asdict(job))], Path(job.directory), limits)
    if ended:
        return ended
    found: JsonObject = json.loads(answer.read_text())
    answer.unlink()
    return found


def measure(model: str, tool: str, formats: tuple[str, ...], limits: Limits) -> Measured:
    """One export in a new process, its files checked in others."""
    with tempfile.TemporaryDirectory(prefix="export-speed-") as directory:
        job = Job("export", model, tool, formats, directory)
        found = in_child(job, limits)
        invalid = []
        for kind in () if "failure" in found else formats:
            checked = in_child(replace(job, do="check", formats=(kind,)), limits)
            reason = checked.get("failure") or checked.get("invalid")
            invalid += [f"{kind}: {reason}"] if reason else []
    return Measured(model, tool, formats, invalid="; ".join(invalid), **found)


def measure_model(model: str, repeat: int, limits: Limits) -> Iterator[Measured]:
    """The fastest of `repeat` for each format and tool; a failure is not repeated."""
    plan: list[tuple[str, tuple[str, ...]]] = [(tool, (kind,)) for kind in FORMATS for tool in ("ours", "keras")]
    for tool, formats in [*plan, ("ours", FORMATS)]:
        found = [measure(model, tool, formats, limits)]
        while len(found) < repeat and not found[0].failure:
            found.append(measure(model, tool, formats, limits))
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
    failed = [each for each in parts if each.failure]
    total = sum(each.seconds for each in parts if not each.failure)
    ratio = "-" if together.failure else f"{'> ' if failed else ''}{total / together.seconds:.1f}x"
    note = f"without Keras's {', '.join(each.formats[0] for each in failed)}" if failed else ""
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
    """For each of the project's targets that was measured, whether it is met."""
    by = {(each.model, each.tool, each.formats): each for each in results if not each.failure}

    def line(name: str, value: float, bound: float, unit: str, at_least: bool) -> str:
        met = value >= bound if at_least else value <= bound
        sign = ">=" if at_least else "<="
        return f"{name}: {value:.2f}{unit}, target {sign} {bound:g}{unit}: {'met' if met else 'MISSED'}"

    ours, keras = by.get(("resnet50", "ours", ("onnx",))), by.get(("resnet50", "keras", ("onnx",)))
    if ours and keras:
        yield line("resnet50 ONNX compared with Keras", keras.seconds / ours.seconds, 8, "x", True)
    together = by.get(("resnet50", "ours", FORMATS))
    parts = [by.get(("resnet50", "keras", (kind,))) for kind in FORMATS]
    if together and all(parts):
        total = sum(each.seconds for each in parts if each)
        yield line("resnet50, three formats, compared with Keras", total / together.seconds, 4, "x", True)
    large = by.get(("vgg16", "ours", ("onnx",)))
    if large and large.above is not None:
        yield line("vgg16 ONNX", large.seconds, 6, " s", False)
        yield line("vgg16 ONNX above the built model", large.above / GIGABYTE, 2.5, " GB", False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models of the zoo [default: {' '.join(NAMES)}]")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="times each export is measured [default: 1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement to FILE")
    parser.add_argument("--memory-limit", type=float, default=16.0, metavar="GB", help="of each process [default: 16]")
    parser.add_argument("--time-limit", type=float, default=600.0, metavar="SECONDS", help="[default: 600]")
    arguments = parser.parse_args()
    limits = Limits(arguments.memory_limit * GIGABYTE, arguments.time_limit)
    results: list[Measured] = []
    rows: list[tuple[str, ...]] = []
    for name in arguments.names or NAMES:
        of_model = []
        for each in measure_model(name, arguments.repeat, limits):
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
