"""Which layers and functions of Keras export: keras.layers, keras.ops and keras.activations in three formats.

    python tests/sweeps/coverage.py                        what is not in docs/coverage.json yet
    python tests/sweeps/coverage.py --only Conv --again    rows whose name contains "Conv", measured anew
    python tests/sweeps/coverage.py --again-open           every row of which a cell is not proven

A cell is the verdict of `converter.export` for a small model (`coverage_layers.py`, `coverage_ops.py`): "proven", or
why not. Ten functions share a model, one output each. Such a model proves all of them or none, and none if one of them
has no float64 reference: what it leaves open is exported again in smaller parts, down to one function and one format.
What Keras itself cannot call in a model has no cells. Exports run in a process that is replaced when it dies or hangs.
The file is written after every group, so that an interrupted sweep goes on where it was. Exit code 1 if a cell that was
proven is not any more.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

FORMATS = ("onnx", "tflite", "saved-model")
KINDS = ("layers", "ops", "activations")
PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnxruntime-gpu", "ai-edge-litert")
FILE = Path(__file__).resolve().parents[2] / "docs" / "coverage.json"
GROUP, SECONDS = 10, 400
PROVEN = "proven"
_FOLDER = re.compile(r"[^\s:'\"]*\.out\.partial-[\w-]+/")
_SET = re.compile(r"(?<=\{)'\w+'(?:, '\w+')+(?=\})")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Cells = dict[str, str]
"""What became of a row: by format, or under "keras" why Keras cannot call it"""
Answer = dict[str, Any]
"""What an export said: "keras", "error", or "verdict" with "refused" by format and "failed" by format and case

"exact" says that there was a float64 reference."""
Measure = Callable[[str, Sequence[str], Sequence[str]], Answer]


def names() -> dict[str, list[str]]:
    """Every name that must have a row or a reason, by kind."""
    import coverage_layers
    import coverage_ops

    return {"layers": coverage_layers.names(), "ops": coverage_ops.names(), "activations": coverage_ops.activations()}


def cases() -> dict[str, list[str]]:
    """Every row that there is a model for, by kind: a name, or a name, a colon, and a variant of it."""
    import coverage_layers
    import coverage_ops

    return {kind: sorted(each) for kind, each in (("layers", coverage_layers.CASES), *coverage_ops.KINDS.items())}


def left_out() -> dict[str, dict[str, str]]:
    """The names without rows, with their reasons, by kind."""
    import coverage_layers
    import coverage_ops

    return {"layers": coverage_layers.LEFT_OUT, "ops": coverage_ops.LEFT_OUT, "activations": coverage_ops.NOT_CALLED}


def incomplete(data: dict[str, Any]) -> list[str]:
    """What is wrong with the rows of `data`: names without a case, cases without a row, rows of nothing."""
    known, found = cases(), []
    for kind, every in names().items():
        bases = {each.split(":")[0] for each in known[kind]}
        reasons = left_out()[kind]
        found += [f"{kind}: {name} has no case and no reason" for name in every if name not in bases | set(reasons)]
        found += [f"{kind}: {name} is not in Keras" for name in sorted((bases | set(reasons)) - set(every))]
        found += [f"{kind}: {name} has a case and a reason" for name in sorted(bases & set(reasons))]
        found += [f"{kind}: {name} was not measured" for name in known[kind] if name not in data[kind]]
        found += [f"{kind}: {name} has a row and no case" for name in data[kind] if name not in known[kind]]
        whole = (set(FORMATS), {"keras"})
        found += [f"{kind}: {name} has cells of its own" for name, row in data[kind].items() if set(row) not in whole]
    if data["left_out"] != left_out():
        found.append("the names that are left out are not those of the file")
    return found


def lost(before: Cells, after: Cells) -> list[str]:
    """The formats of a row that were proven and are not any more."""
    return [each for each in FORMATS if before.get(each) == PROVEN and after.get(each) != PROVEN]


def read(file: Path = FILE) -> dict[str, Any]:
    """What was measured before."""
    empty: dict[str, Any] = {"versions": {}, "left_out": {}, **{kind: {} for kind in KINDS}}
    return empty | (json.loads(file.read_text()) if file.is_file() else {})


@dataclass
class Worker:
    """A process that exports; another one takes its place when it ends."""

    process: subprocess.Popen[str] | None = None

    def measure(self, kind: str, cases: Sequence[str], formats: Sequence[str]) -> Answer:
        """What the export of one model with all `cases` said."""
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
        if line:
            return dict(json.loads(line))
        self.close()
        return {"error": "crash: the process ended" if answers else f"hang: more than {SECONDS} s"}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            with self.process:
                self.process.kill()
            self.process = None


def measured(measure: Measure, kind: str, cases: Sequence[str], formats: Sequence[str]) -> dict[str, Cells]:
    """The cells of each case. An export that does not settle a cell is repeated with fewer cases, then formats."""
    answer = measure(kind, cases, formats)
    if "keras" in answer and len(cases) == 1:
        return {cases[0]: {"keras": answer["keras"]}}
    cells: dict[str, Cells] = {case: {} for case in cases}
    refused = answer.get("refused", {})
    if answer.get("verdict") == "pass" and (answer["exact"] or len(cases) == 1):
        for case in cases:
            cells[case] = {name: PROVEN for name in formats if name not in refused}
    if len(cases) == 1:
        cells[cases[0]] |= {name: f"refused: {text}" for name, text in refused.items()}
        unsettled = [name for name in formats if name not in cells[cases[0]]]
        if len(formats) == 1 and unsettled:
            failed = answer.get("failed", {}).get(formats[0], {})
            text = (
                answer.get("error", "").replace(f"refused: {formats[0]}: ", "refused: ")
                or failed.get(cases[0])
                or f"{answer['verdict']}: {answer['reason']}"
            )
            cells[cases[0]][formats[0]] = text
            unsettled = []
        for name in unsettled:
            cells[cases[0]] |= measured(measure, kind, cases, [name])[cases[0]]
        return cells
    unsettled = [name for name in formats if name not in cells[cases[0]]]
    if unsettled:
        for part in _parts(cases, answer):
            for case, more in measured(measure, kind, part, unsettled).items():
                cells[case] |= more
    return cells


def _parts(cases: Sequence[str], answer: Answer) -> list[Sequence[str]]:
    """Smaller groups: those that failed apart from the others, or two halves."""
    failed = {case for each in answer.get("failed", {}).values() for case in each}
    if failed and len(failed) < len(cases):
        return [*([case] for case in cases if case in failed), [case for case in cases if case not in failed]]
    half = (len(cases) + 1) // 2
    return [cases[:half], cases[half:]]


def exported(kind: str, cases: Sequence[str], formats: Sequence[str]) -> Answer:
    """Export one model with all `cases` to `formats`, and what came of it; for `measured`."""
    import coverage_layers
    import coverage_ops
    import keras

    import converter
    from converter.core.errors import CnnExportError

    keras.backend.clear_session()
    one = kind != "layers" and coverage_ops.of_one_sample(kind, cases[0])
    options: dict[str, Any] = {"batch": 1} if one else {}
    try:
        model = coverage_layers.model(cases[0]) if kind == "layers" else coverage_ops.model(kind, tuple(cases), one)
    except Exception as error:  # noqa: BLE001  whatever Keras raises for a call that it does not support
        return {"keras": f"{type(error).__name__}: {_cause(str(error))}"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = converter.export(model, output=Path(folder, "out"), formats=tuple(formats), samples=3, **options)
        except CnnExportError as error:
            cause = _own_error(model)
            text = f"refused: {_line(error)}"
            return {"keras": cause} if cause else {"error": text, "failed": {"": _named(text, cases, kind)}}
        except Exception as error:  # noqa: BLE001  a crash is a cell
            return {"error": f"crash: {type(error).__name__}: {_line(error)}"}
    failed: dict[str, Cells] = {}
    for row in report.rows:
        bad = {
            each.output: each.reason or f"relative L2 {each.relative_l2:.0e}" for each in row.outputs if not each.passed
        }
        found = {case: f"fail: {text}" for name, text in bad.items() for case in cases if _belongs(name, case, kind)}
        if row.error:
            found = dict.fromkeys(cases, f"crash: {_line(row.error)}")
        if found:
            failed[row.subject] = found
    failed[""] = _named("\n".join(report.reasons), cases, kind)
    return {
        "verdict": report.verdict,
        "exact": all(each.noise is not None for each in report.tolerances.values()),
        "reason": _line(report.reasons[0]) if report.reasons else "",
        "refused": {name: _line(text) for name, text in (each.split(": ", 1) for each in report.failures)},
        "failed": failed,
    }


def _named(text: str, cases: Sequence[str], kind: str) -> Cells:
    """The cases that `text` names an output of."""
    named = re.findall(r"output (\w+)", text) if kind != "layers" else []
    return {case: text for case in cases if any(_belongs(output, case, kind) for output in named)}


def _own_error(model: Any) -> str:
    """Why Keras alone cannot call `model`, or ""."""
    import keras

    from converter.core.samples import generate
    from converter.tracing.signature import describe

    try:
        given = generate(describe(model).inputs, 3, 0)
        model.predict_on_batch([keras.ops.convert_to_tensor(each) for each in given.values()])
    except Exception as error:  # noqa: BLE001  whatever Keras raises
        return f"{type(error).__name__}: {_cause(str(error))}"
    return ""


def _cause(text: str) -> str:
    """The cause within what Keras and TensorFlow raise around it, in one line."""
    plain = _COLOURS.sub("", text)
    node = re.search(r"^(.+?)\s*\[\[\{\{node ", plain, re.MULTILINE | re.DOTALL)
    if node:
        plain = node[1].splitlines()[-1]
    plain = " ".join(plain.split())
    return (
        plain.split("Error encountered: ")[-1]
        .split(" Arguments received by ")[0]
        .split(" for '{{node")[0]
        .split(" You can ")[0][:160]
    )


def _line(error: BaseException | str) -> str:
    """The first line of an error, without what is another one in every export."""
    from converter.core.text import first_line

    text = _FOLDER.sub("", first_line(error, 500)).split(" [[{{node")[0]
    return _SET.sub(lambda found: ", ".join(sorted(found[0].split(", "))), text).strip()[:160]


def _belongs(output: str, case: str, kind: str) -> bool:
    """Whether `case` made `output`."""
    import coverage_ops

    rest = output.removeprefix(coverage_ops.output_name(case))
    return kind == "layers" or rest == "" or (rest.startswith("_") and rest[1:].isdigit())


def work() -> None:
    """Export what is asked for on standard input, one line each, and answer in lines."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from converter.tracing.context import quiet_tensorflow

    quiet_tensorflow()
    for line in sys.stdin:
        answers.write(json.dumps(exported(*json.loads(line))) + "\n")
        answers.flush()


def groups(kind: str, names: Sequence[str], size: int) -> list[list[str]]:
    """`names` in groups of those that one model can call, each in the order of `names`."""
    import coverage_ops

    if kind == "layers":
        return [[name] for name in names]
    apart: dict[bool, list[str]] = {False: [], True: []}
    for name in names:
        apart[coverage_ops.of_one_sample(kind, name)].append(name)
    return [every[start : start + size] for every in apart.values() for start in range(0, len(every), size)]


def sweep(file: Path, only: str, wanted: Callable[[Cells | None], bool], group: int) -> int:
    """Measure the rows whose name contains `only` and that are `wanted`; how many proven cells were lost."""
    data, worker, losses = read(file), Worker(), 0
    data["left_out"] = left_out()
    data["versions"] = {name: metadata.version(name) for name in PACKAGES}
    for kind, every in cases().items():
        rows = data[kind] = {name: row for name, row in data[kind].items() if name in every}
        todo = [name for name in every if only in name and wanted(rows.get(name))]
        for part in groups(kind, todo, group):
            for name, cells in measured(worker.measure, kind, part, FORMATS).items():
                gone = lost(rows.get(name, {}), cells)
                losses += len(gone)
                rows[name] = {each: cells[each] for each in (*FORMATS, "keras") if each in cells}
                print(f"{kind} {name}: {cells}{f'  LOST: {gone}' if gone else ''}", flush=True)
            data[kind] = dict(sorted(rows.items()))
            _write(file, data)
    _write(file, data)
    worker.close()
    return losses


def _write(file: Path, data: dict[str, Any]) -> None:
    """Replace the file as a whole, so that an interruption leaves the one before."""
    new = file.with_suffix(".partial")
    new.write_text(json.dumps(data, indent=1) + "\n")
    new.replace(file)


def main() -> int:
    """Measure the rows that are asked for; the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="part of the names")
    options.add_argument("--again", action="store_true", help="also rows that there are")
    options.add_argument("--again-open", action="store_true", help="also rows that are not proven, one model for each")
    options.add_argument("--file", type=Path, default=FILE, help="read and written")
    options.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.worker:
        work()
        return 0

    def wanted(row: Cells | None) -> bool:
        return row is None or given.again or (given.again_open and any(row.get(name) != PROVEN for name in FORMATS))

    return 1 if sweep(given.file, given.only, wanted, 1 if given.again_open else GROUP) else 0


if __name__ == "__main__":
    sys.exit(main())
