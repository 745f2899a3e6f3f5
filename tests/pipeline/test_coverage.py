"""docs/coverage.json and its page: every name of Keras has a row or a reason, and nothing that was proven is lost."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWEEPS, DOCS = ROOT / "tests" / "sweeps", ROOT / "docs"
SAMPLE = {
    "layers": (("Conv2DTranspose",), ("Bidirectional",)),
    "ops": (("argmax", "einsum", "sort"), ("slice",)),
    "activations": (("gelu", "sparsemax"),),
}
"""Rows that are proven in every format, in groups that share a model"""


@pytest.fixture(scope="module")
def sweep() -> Iterator[ModuleType]:
    """tests/sweeps/coverage.py, under a name that no package has."""
    sys.path.insert(0, str(SWEEPS))
    spec = importlib.util.spec_from_file_location("coverage_sweep", SWEEPS / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["coverage_sweep"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SWEEPS))


@pytest.fixture(scope="module")
def table() -> Iterator[ModuleType]:
    """docs/coverage_table.py."""
    sys.path.insert(0, str(DOCS))
    import coverage_table

    yield coverage_table
    sys.path.remove(str(DOCS))


def test_every_name_of_keras_is_in_the_table(sweep: ModuleType) -> None:
    assert sweep.incomplete(sweep.read()) == []


def test_a_new_class_of_keras_is_named(sweep: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.layers, "Brand", type("Brand", (keras.layers.Layer,), {}), raising=False)
    monkeypatch.setattr(keras.ops, "brand_new", lambda x: x, raising=False)
    monkeypatch.setattr(keras.activations, "newest", lambda x: x, raising=False)
    assert sweep.incomplete(sweep.read()) == [
        "layers: Brand has no case and no reason",
        "ops: brand_new has no case and no reason",
        "activations: newest has no case and no reason",
    ]


def test_a_row_that_is_missing_or_not_whole_is_named(sweep: ModuleType) -> None:
    data = sweep.read()
    del data["layers"]["Conv2D"]
    del data["ops"]["abs"]["tflite"]
    data["ops"]["no_such"] = data["ops"]["add"]
    assert sweep.incomplete(data) == [
        "layers: Conv2D was not measured",
        "ops: no_such has a row and no case",
        "ops: abs has cells of its own",
    ]


def test_a_cell_is_a_verdict(sweep: ModuleType) -> None:
    data = sweep.read()
    cells = [cell for kind in sweep.KINDS for row in data[kind].values() for cell in row.values() if "keras" not in row]
    verdicts = ("refused: ", "fail: ", "inconclusive: ", "crash: ", "hang: ")
    assert not [cell for cell in cells if cell != sweep.PROVEN and not cell.startswith(verdicts)]
    assert not [name for kind in sweep.KINDS for name, row in data[kind].items() if "Name" in row.get("keras", "")]


def test_the_page_counts_what_the_file_has(table: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads((DOCS / "coverage.json").read_text())
    page = table.counts()
    for kind in ("layers", "ops", "activations"):
        known = {name.split(":")[0] for name, row in data[kind].items() if "keras" not in row}
        assert f"| {len(known)} " in page
        for form in table.FORMATS:
            open_names = {name.split(":")[0] for name, row in data[kind].items() if row.get(form, "proven") != "proven"}
            assert table.totals(data[kind])[form] == (len(known - open_names), len(known))
            assert f"{len(known - open_names)} ({100 * len(known - open_names) / len(known):.1f} %)" in page
        lines = table.rows(kind).splitlines()[2:]
        assert len(lines) == sum("keras" not in row for row in data[kind].values())
    cells = [
        cell for kind in table.KINDS for row in data[kind].values() for form, cell in row.items() if form != "keras"
    ]
    counted = [int(line.split(" | ")[2]) for line in table.reasons().splitlines()[2:]]
    assert sum(counted) == sum(cell != "proven" for cell in cells)
    conv, other = (
        {"onnx": "proven", "tflite": "refused: x (X): A | B", "saved-model": "proven"},
        {"keras": "TypeError: no"},
    )
    found = {
        "versions": {},
        "left_out": {},
        "layers": {"A": conv, "A: b": conv},
        "ops": {"c": other},
        "activations": {},
    }
    monkeypatch.setattr(table, "data", lambda: found)
    assert table.totals(found["layers"]) == {"onnx": (1, 1), "tflite": (0, 1), "saved-model": (1, 1)}
    assert table.reasons().splitlines()[2:] == [r"| TFLite | refused: A \| B | 2 | A, A: b |"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("refused: conv3d (Conv3D): AvgPool3D has no counterpart", "refused: AvgPool3D has no counterpart"),
        ("refused: input words is text for a (A), b (B), which onnx lacks", "refused: input is text, which onnx lacks"),
        ("refused: output op_view: float64 has shape (3,)", "refused: float64 has shape (3,)"),
        ("inconclusive: output op_a: no control changes it, so that", "inconclusive: no control changes it"),
        ("refused: the graph: Sub has no counterpart", "refused: Sub has no counterpart"),
        ("crash: KeyError: 2", "crash: KeyError: 2"),
    ],
)
def test_a_reason_is_without_the_names_of_the_model(table: ModuleType, cell: str, reason: str) -> None:
    assert table.reason(cell) == reason


class Exports:
    """Answers like those of exports.

    `bad` has the cells that are refused; `broken` fails, `crash` ends all, and `inexact` has no float64 reference.
    """

    def __init__(self, bad: set[tuple[str, str]], broken: str = "", crash: str = "", inexact: str = "") -> None:
        self.bad, self.broken, self.crash, self.inexact = bad, broken, crash, inexact
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def __call__(self, kind: str, cases: Sequence[str], formats: Sequence[str]) -> dict[str, Any]:
        self.asked.append((tuple(cases), tuple(formats)))
        if self.crash in cases:
            return {"error": "crash: KeyError: 2"}
        refused = {form: "no" for form in formats for case in cases if (case, form) in self.bad}
        failed = {form: {self.broken: "fail: 1"} for form in formats if self.broken in cases and form not in refused}
        found = {"verdict": "fail" if failed else "pass", "reason": "", "refused": refused, "failed": failed}
        return found | {"exact": self.inexact not in cases}


def test_what_a_group_hides_is_found_in_smaller_ones(sweep: ModuleType) -> None:
    names = [f"f{number}" for number in range(10)]
    exports = Exports({("f3", "onnx"), ("f3", "tflite"), ("f7", "tflite")}, broken="f5", crash="f9")
    cells = sweep.measured(exports, "ops", names, sweep.FORMATS)
    proven = dict.fromkeys(sweep.FORMATS, "proven")
    expected = {name: dict(proven) for name in names}
    expected["f3"] |= {"onnx": "refused: no", "tflite": "refused: no"}
    expected["f7"]["tflite"] = "refused: no"
    expected["f5"] = dict.fromkeys(sweep.FORMATS, "fail: 1")
    expected["f9"] = dict.fromkeys(sweep.FORMATS, "crash: KeyError: 2")
    assert cells == expected
    assert len(exports.asked) < len(names) * len(sweep.FORMATS)


def test_a_group_that_passes_is_exported_once(sweep: ModuleType) -> None:
    exports = Exports(set())
    cells = sweep.measured(exports, "ops", ["f0", "f1"], sweep.FORMATS)
    assert cells == {name: dict.fromkeys(sweep.FORMATS, "proven") for name in ("f0", "f1")}
    assert exports.asked == [(("f0", "f1"), sweep.FORMATS)]


def test_a_function_without_float64_does_not_vouch_for_others(sweep: ModuleType) -> None:
    exports = Exports(set(), inexact="f1")
    cells = sweep.measured(exports, "ops", ["f0", "f1"], sweep.FORMATS)
    assert cells == {name: dict.fromkeys(sweep.FORMATS, "proven") for name in ("f0", "f1")}
    assert exports.asked == [(names, sweep.FORMATS) for names in (("f0", "f1"), ("f0",), ("f1",))]


def test_a_lost_cell_is_found(sweep: ModuleType) -> None:
    before = {"onnx": "proven", "tflite": "proven", "saved-model": "refused: no"}
    assert sweep.lost(before, before) == []
    assert sweep.lost(before, {"onnx": "proven", "tflite": "fail: 1", "saved-model": "proven"}) == ["tflite"]
    assert sweep.lost(before, {"keras": "TypeError: no"}) == ["onnx", "tflite"]


@pytest.mark.parametrize(("kind", "group"), [(kind, group) for kind, groups in SAMPLE.items() for group in groups])
def test_a_sample_of_the_rows_is_still_proven(sweep: ModuleType, kind: str, group: tuple[str, ...]) -> None:
    known = sweep.read()[kind]
    assert {name: known[name] for name in group} == {name: dict.fromkeys(sweep.FORMATS, "proven") for name in group}
    assert sweep.measured(sweep.exported, kind, group, sweep.FORMATS) == {name: known[name] for name in group}


def test_a_refused_row_keeps_its_reason(sweep: ModuleType) -> None:
    row = sweep.read()["layers"]["StringLookup"]
    assert row["onnx"].startswith("refused: ")
    assert sweep.measured(sweep.exported, "layers", ["StringLookup"], sweep.FORMATS) == {"StringLookup": row}


def test_a_process_that_ends_is_a_cell(sweep: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import sys\nsys.stdin.readline()\nsys.exit(3)\n")
    monkeypatch.setattr(sweep, "__file__", str(script))
    worker = sweep.Worker()
    assert worker.measure("ops", ["abs"], ["onnx"]) == {"error": "crash: the process ended"}
    script.write_text('import sys\nfor line in sys.stdin:\n    print(\'{"verdict": "pass"}\', flush=True)\n')
    assert worker.measure("ops", ["abs"], ["onnx"]) == {"verdict": "pass"}
    worker.close()


@pytest.mark.slow
def test_nothing_that_was_proven_is_lost(sweep: ModuleType, tmp_path: Path) -> None:
    """Every row again: about half an hour."""
    file = tmp_path / "coverage.json"
    shutil.copy(sweep.FILE, file)
    command = [sys.executable, str(SWEEPS / "coverage.py"), "--again", "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "LOST" in line) or done.stderr
    assert sweep.incomplete(json.loads(file.read_text())) == []
