"""Which layers and functions of Keras export: every class of keras.layers, every function of keras.ops, three formats.

    python tests/sweeps/coverage.py                        what is not in docs/coverage.json yet
    python tests/sweeps/coverage.py --only Conv --again    rows whose name contains "Conv", measured anew
    python tests/sweeps/coverage.py --again-open           every row of which a cell is not proven

A cell is the verdict of `converter.export` for a small model (`coverage_layers.py`, `coverage_ops.py`): "proven", or
why not. Ten functions share a model, one output each; when a format refuses it, halves of them are tried, down to one.
What Keras itself cannot call in a model has no cells. Exports run in a process that is replaced when it dies or hangs.
The file is written after every group, so that an interrupted sweep goes on where it was. Exit code 1 if a cell that was
proven is not any more.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

FORMATS = ("onnx", "tflite", "saved-model")
FILE = Path(__file__).resolve().parents[2] / "docs" / "coverage.json"
GROUP, SECONDS = 10, 400
PROVEN = "proven"

Cells = dict[str, str]
"""What became of a case: by format, or under "keras" why Keras cannot call it"""


def names() -> dict[str, list[str]]:
    """Every name that must have a row or a reason, by kind."""
    import coverage_layers
    import coverage_ops

    return {"layers": coverage_layers.names(), "ops": coverage_ops.names()}


def left_out() -> dict[str, dict[str, str]]:
    """The names without rows, with their reasons, by kind."""
    import coverage_layers
    import coverage_ops

    return {"layers": coverage_layers.LEFT_OUT, "ops": coverage_ops.LEFT_OUT}


def read() -> dict[str, Any]:
    """What was measured before."""
    empty: dict[str, Any] = {"versions": {}, "left_out": {}, "layers": {}, "ops": {}}
    return json.loads(FILE.read_text()) if FILE.is_file() else empty


@dataclass
class Worker:
    """A process that exports; another one takes its place when it ends."""

    process: subprocess.Popen[str] | None = None

    def measure(self, kind: str, cases: Sequence[str], formats: Sequence[str]) -> dict[str, Cells]:
        """The cells of `cases`, which share a model."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([kind, list(cases), list(formats)]) + "\n")
        self.process.stdin.flush()
        answers, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if answers else ""
        if not line:
            self.process.kill()
            self.process = None
            text = "crash: the process ended" if answers else f"hang: more than {SECONDS} s"
            return {case: dict.fromkeys(formats, text) for case in cases}
        result: dict[str, Cells] = json.loads(line)
        return result


def measured(worker: Worker, kind: str, cases: Sequence[str], formats: Sequence[str]) -> Iterator[tuple[str, Cells]]:
    """The cells of each case; what a group hides is found in its halves."""
    found = worker.measure(kind, cases, formats)
    if len(cases) == 1:
        yield from found.items()
        return
    clear: dict[str, Cells] = {case: {} for case in cases}
    hidden: list[str] = []
    for name in formats:
        values = [found[case].get(name, "") for case in cases]
        if all(value in (PROVEN, "") or value.startswith("fail: ") for value in values) and PROVEN in values:
            for case, value in zip(cases, values, strict=True):
                clear[case][name] = value
        else:
            hidden.append(name)
    if hidden:
        half = (len(cases) + 1) // 2
        for part in (cases[:half], cases[half:]):
            for case, cells in measured(worker, kind, part, hidden):
                clear[case] |= cells
    yield from clear.items()


def work() -> None:
    """Export what is asked for on standard input, one line each, and answer in lines."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from converter.tracing.context import quiet_tensorflow

    quiet_tensorflow()
    for line in sys.stdin:
        answers.write(json.dumps(_exported(*json.loads(line))) + "\n")
        answers.flush()


def _exported(kind: str, cases: list[str], formats: list[str]) -> dict[str, Cells]:
    import coverage_layers
    import coverage_ops
    import keras

    import converter
    from converter.core.errors import CnnExportError
    from converter.core.text import first_line

    keras.backend.clear_session()
    try:
        model = coverage_layers.model(cases[0]) if kind == "layers" else coverage_ops.model(tuple(cases))
    except Exception as error:  # noqa: BLE001  whatever Keras raises for a call that it does not support
        return {case: {"keras": f"{type(error).__name__}"} for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = converter.export(model, output=Path(folder, "out"), formats=formats, samples=3)
        except CnnExportError as error:
            text = f"refused: {first_line(error, 160)}"
            return {case: dict.fromkeys(formats, text) for case in cases}
        except Exception as error:  # noqa: BLE001  a crash is a cell
            text = f"crash: {type(error).__name__}: {first_line(error, 120)}"
            return {case: dict.fromkeys(formats, text) for case in cases}
    result: dict[str, Cells] = {case: {} for case in cases}
    refusals = dict(each.split(": ", 1) for each in report.failures)
    for name in formats:
        (row,) = [each for each in report.rows if each.subject == name] or [None]
        for case in cases:
            outputs = [each for each in (row.outputs if row else ()) if _belongs(each.output, case, kind)]
            if name in refusals:
                cell = f"refused: {first_line(refusals[name], 160)}"
            elif row is None or row.error:
                cell = f"crash: {first_line(row.error, 120) if row else 'no row'}"
            elif not all(each.passed for each in outputs):
                worst = max(each.relative_l2 or 0.0 for each in outputs)
                cell = f"fail: relative L2 {worst:.0e}"
            elif report.verdict == "pass" or (report.verdict == "fail" and outputs):
                cell = PROVEN
            else:
                cell = f"{report.verdict}: {first_line(report.reasons[0], 120) if report.reasons else ''}"
            result[case][name] = cell
    return result


def _belongs(output: str, case: str, kind: str) -> bool:
    rest = output.removeprefix(f"op_{case}")
    return kind == "layers" or rest == "" or (rest.startswith("_") and rest[1:].isdigit())


def main() -> int:
    """Measure the rows that are asked for; the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="part of the names")
    options.add_argument("--again", action="store_true", help="also rows that there are")
    options.add_argument("--again-open", action="store_true", help="also rows that are not proven")
    options.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        work()
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    data, worker, worse = read(), Worker(), 0
    data["left_out"] = left_out()
    data["versions"] = {name: metadata.version(name) for name in ("keras", "tensorflow", "tf2onnx", "onnxruntime-gpu")}
    for kind, every in names().items():
        rows = data[kind]
        asked = [name for name in every if given.only in name and name not in data["left_out"][kind]]
        todo = [name for name in asked if given.again or name not in rows or (given.again_open and _open(rows[name]))]
        size = GROUP if kind == "ops" else 1
        for start in range(0, len(todo), size):
            for name, cells in measured(worker, kind, todo[start : start + size], FORMATS):
                before = rows.get(name, {})
                lost = [each for each in FORMATS if before.get(each) == PROVEN and cells.get(each) != PROVEN]
                worse += len(lost)
                rows[name] = {"keras": cells["keras"]} if "keras" in cells else cells
                print(f"{kind} {name}: {rows[name]}{'  WORSE' if lost else ''}", flush=True)
            data[kind] = dict(sorted(rows.items()))
            FILE.write_text(json.dumps(data, indent=1) + "\n")
    return 1 if worse else 0


def _open(cells: Cells) -> bool:
    return any(cells.get(name) != PROVEN for name in FORMATS)


if __name__ == "__main__":
    sys.exit(main())
