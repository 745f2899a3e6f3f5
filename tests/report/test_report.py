"""The report: complete as JSON, readable as a table, and robust against any layer names."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from converter.core.data import Artifact, TensorSpec
from converter.core.results import Comparison, Control, OutputResult, Report, Tolerance
from converter.report.table import clean, print_json, print_report, table, to_json

BOUND = Tolerance(1.6e-5, 1.6e-5, 2e-6, 2e-6, 8.0, 1e-6, 1e-4)


def result(name: str = "main", passed: bool = True, **fields: object) -> OutputResult:
    numbers = {"relative_l2": 1.25e-7, "relative_max": 2e-7, "max_abs": 1e-6, "cosine": 1.0, "multiple": 0.1}
    return OutputResult(name, "log-probability", passed, **{**numbers, **fields})


def row(subject: str, *outputs: OutputResult, runtime: str = "onnxruntime", device: str = "cpu") -> Comparison:
    return Comparison(subject, runtime, device, "float32", outputs, 8, 0.054, 102_400_000, {"version": "1.32"})


def report(**fields: object) -> Report:
    values: dict[str, object] = {
        "model": "resnet50",
        "source": {"kind": "zoo", "untrained": True},
        "rows": (row("onnx", result()), row("keras-rewritten", result(), runtime="keras")),
        "controls": (
            Control("another-sample", True, 0.9, outputs=("main",)),
            Control("channels-reversed", True, 0.4, outputs=("main",)),
        ),
        "tolerances": {"main": BOUND},
        "separation": {"main": 0.31},
        "verdict": "pass",
        "warnings": ("opset 17 was chosen",),
        "timings": {"trace": 1.5},
        "environment": {"numpy": np.__version__},
        "directory": "artifacts/resnet50",
        **fields,
    }
    return Report(**values)


def printed(value: Report) -> str:
    file = io.StringIO()
    print_report(value, file)
    return file.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


# the table


def test_a_pass_shows_every_figure_within_100_columns():
    text = printed(report())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("resnet50")
    header, first, second = lines[2:5]
    assert header.split() == [
        "format",
        "runtime",
        "error",
        "noise",
        "x",
        "noise",
        "tolerance",
        "verdict",
        "size",
        "time",
    ]
    assert first.startswith("keras-rewritten")
    assert second.split() == [
        "onnx", "onnxruntime", "1.2e-07", "2.0e-06", "0.1", "1.6e-05", "pass", "102.4", "MB", "54", "ms",
    ]  # fmt: skip
    assert "controls: 2 of 2 wrong outputs detected: another-sample 9.0e-01, channels-reversed 4.0e-01" in text
    assert "main 3.1e-01, 19,375 times the tolerance" in text
    assert "8 times the noise 2.0e-06" in text
    assert "untrained" in text
    assert "warning: opset 17 was chosen" in text
    assert lines[-1] == "pass (onnx in onnxruntime): artifacts/resnet50"
    assert "\x1b" not in text


def test_no_note_on_weights_that_were_given():
    assert "untrained" not in printed(report(source={"untrained": False}))


def test_a_failure_and_an_unmeasured_noise_are_explained():
    broken = row("onnx", result(passed=False, relative_l2=None, multiple=None, reason="8 values are NaN"))
    strict = replace(BOUND, value=1e-5, noise=None)
    missed = Control("kernel-scaled-1.001", False, 1e-9, "not distinguished on main")
    text = printed(
        report(rows=(broken,), verdict="fail", reasons=("onnx: 8 values are NaN",), tolerances={"main": strict},
               controls=(missed,))
    )  # fmt: skip
    assert "FAIL" in text
    assert "fail: onnx: 8 values are NaN" in text
    assert "noise was not measured" in text
    assert "0 of 1 wrong outputs detected; NOT detected: kernel-scaled-1.001" in text


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (replace(BOUND, value=1e-6, noise=1e-9), "1.0e-06, the floor"),
        (replace(BOUND, value=1e-4, noise=1e-2), "1.0e-04, the cap"),
        (replace(BOUND, value=0.5, chosen=True), "5.0e-01, set by the user"),
        (replace(BOUND, value=0.1, floor=0.1, cap=0.1), "fixed for this precision"),
    ],
)
def test_where_a_tolerance_comes_from(bound, words):
    assert words in printed(report(tolerances={"main": bound}))


def test_outputs_and_devices_are_shown_only_if_there_are_several():
    text = printed(report())
    assert "output" not in text.splitlines()[2]
    assert "device" not in text.splitlines()[2]
    rows = (row("onnx", result(), result("aux1"), device="cuda"),)
    lines = printed(report(rows=rows)).splitlines()
    assert "device" in lines[2]
    assert "output" in lines[2]
    assert lines[4].split()[0] == "aux1"


def test_nothing_compared_is_reported():
    assert "nothing was compared" in printed(report(rows=(), verdict="inconclusive"))
    assert "nothing compared" in printed(report(rows=(row("onnx"),), verdict="inconclusive"))


def test_infinities_and_absent_values_print():
    odd = result(relative_l2=math.inf, multiple=math.inf, passed=False)
    text = printed(report(rows=(row("onnx", odd),), separation={"main": math.nan, "other": 0.0}))
    assert "inf" in text
    assert "nan" in text


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 80, 100, 250])
def test_any_width_keeps_the_verdicts(monkeypatch, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    long = "a_very_long_output_name_" * 3
    rows = (row("keras-rewritten", result(long), result("x")), row("saved-model", result(long), result("x")))
    text = printed(report(rows=rows, tolerances={long: BOUND, "x": BOUND}))
    assert max(map(len, text.splitlines())) <= min(100, max(20, width))
    assert text.count("pass") == 5
    assert text.splitlines()[-1].endswith("resnet50")


def test_colour_is_for_terminals(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    print_report(report(), terminal)
    assert "\x1b[32m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    quiet = Terminal()
    print_report(report(), quiet)
    assert "\x1b[32m" not in quiet.getvalue()


def test_the_table_can_be_written_to_an_ascii_file():
    data = io.BytesIO()
    file = io.TextIOWrapper(data, encoding="ascii")
    print_report(report(model="réseau " + "x" * 80), file)
    assert b"r?seau" in data.getvalue()


def test_the_renderable_can_be_printed_by_anyone():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(table(report()))
    assert "onnxruntime" in capture.get()


# names from models

HOSTILE = [
    "[bold red]PASS[/bold red]",
    "[/]",
    "[link=http://x]y[/link]",
    "\x1b[2J\x1b[1;1Hpass: everything",
    "\x1b]0;title\x07name",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mred",
    "line\nbreak\r\nand\ttab",
    "right\u202eto left\u200b\ufeff",
    "nul\x00\x08\x7f",
    "x" * 5000,
    ":smile: :pile_of_poo:",
    "\udcff lone surrogate",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str):
    value = report(
        model=name,
        rows=(row(name, result(name), result("other"), runtime=name), row("onnx", result(name, False, reason=name))),
        controls=(Control(name, False, None, name),),
        tolerances={name: BOUND},
        separation={name: 0.5},
        reasons=(name,),
        warnings=(name,),
        directory=name,
        verdict="fail",
    )
    text = printed(value)
    assert all(character == "\n" or character.isprintable() for character in text)
    assert max(map(len, text.splitlines())) <= 100
    assert len(text) < 5000
    file = io.StringIO()
    print_json(value, file)
    assert json.loads(file.getvalue())["model"] == name


def test_markup_is_shown_and_not_interpreted():
    assert "[bold red]PASS[/bold red]" in printed(report(model="[bold red]PASS[/bold red]"))
    assert ":smile:" in printed(report(model=":smile:"))


def test_clean_shortens_and_strips():
    assert clean("a" * 61) == "a" * 59 + "…"
    assert clean("a" * 60) == "a" * 60
    assert clean("\x1b[31mred\x1b[0m\n next") == "red next"
    assert clean("ünï/cödé") == "ünï/cödé"


# JSON


def test_json_is_one_strict_document_with_everything_in_it():
    artifact = Artifact("onnx", "model.onnx", "float32", (TensorSpec("x", (None, 2)),), (), {"Conv": 3}, 5, 0.5)
    odd = result(sqnr_db=math.inf, worst_index=(1, 2), relative_l2=np.float64(1e-7), cosine=math.nan)
    file = io.StringIO()
    print_json(report(rows=(row("onnx", odd),), artifacts=(artifact,), verdict="inconclusive"), file)
    text = file.getvalue()
    assert text.isascii()

    def no_constant(token: str) -> float:
        raise AssertionError(token)

    value = json.loads(text, parse_constant=no_constant)
    assert (value["exit_code"], value["verdict"]) == (9, "inconclusive")
    output = value["rows"][0]["outputs"][0]
    assert (output["sqnr_db"], output["cosine"], output["worst_index"]) == ("inf", "nan", [1, 2])
    assert value["rows"][0]["passed"] is True
    assert value["tolerances"]["main"]["factor"] == 8.0
    (first, *_) = value["controls"]
    assert first == {
        "name": "another-sample",
        "detected": True,
        "relative_l2": 0.9,
        "detail": "",
        "outputs": ["main"],
        "applicable": True,
    }
    assert value["artifacts"][0]["inputs"][0]["shape"] == [None, 2]
    assert value["separation"] == {"main": 0.31}
    assert value["timings"] == {"trace": 1.5}
    assert value["environment"] == {"numpy": np.__version__}


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 9)])
def test_json_carries_the_exit_code(verdict, code):
    assert to_json(report(verdict=verdict))["exit_code"] == code


def test_numpy_values_become_numbers():
    facts = {"a": np.int64(3), "b": np.array([1.5, math.nan]), "c": {"x", "y"}, "d": np.bool_(True)}
    value = to_json(report(environment=facts))["environment"]
    assert value == {"a": 3, "b": [1.5, "nan"], "c": ["x", "y"], "d": True}
