"""JUnit XML and GitHub annotations: they fail if the report fails, and stay valid for any names."""

from __future__ import annotations

import math
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from sample_reports import BOUND, HOSTILE, hostile, report, result, row

from converter.core.results import Control
from converter.report.github import MAX_PER_LEVEL, in_github_actions, to_annotations
from converter.report.junit import to_junit


def suite_of(text: str) -> ET.Element:
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    (suite,) = root
    for name in ("tests", "failures", "errors", "time"):
        assert root.get(name) == suite.get(name)
    cases = suite.findall("testcase")
    assert int(suite.get("tests", "")) == len(cases)
    assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("errors", "")) == len(suite.findall("testcase/error"))
    return suite


def failed(suite: ET.Element) -> dict[str, str]:
    """The reason, by name, of every case that did not pass."""
    cases = suite.findall("testcase")
    return {
        case.get("name", ""): each.get("message", "") for case in cases for each in case if "message" in each.attrib
    }


def test_a_pass_has_a_case_for_everything_and_its_time():
    suite = suite_of(to_junit(report(rows=(row(result(), result("aux")), *report().rows[1:]))))
    assert suite.get("name") == "net"
    assert suite.get("time") == "2.250"
    times = {case.get("name"): case.get("time") for case in suite.findall("testcase")}
    assert times == {
        "onnx in onnxruntime on cpu: main": "0.750",  # one check of 1.5 s, two outputs
        "onnx in onnxruntime on cpu: aux": "0.750",
        "tflite in litert on cpu: main": "0.500",
        "another-sample": "0.000",
        "kernel-scaled-1.001": "0.000",
        "separation of the samples": "0.000",
        "verdict": "0.000",
    }
    assert failed(suite) == {}


def test_another_precision_and_device_have_their_own_time():
    other = replace(row(result()), precision="float16", device="cuda")
    timings = {"verify onnx in onnxruntime": 1.5, "verify onnx float16 in onnxruntime on cuda": 4.0}
    suite = suite_of(to_junit(report(rows=(row(result()), other), timings=timings)))
    times = {case.get("name"): case.get("time") for case in suite.findall("testcase")}
    assert times["onnx in onnxruntime on cpu: main"] == "1.500"
    assert times["onnx float16 in onnxruntime on cuda: main"] == "4.000"


def test_every_failure_has_a_case_with_its_reason():
    value = report(
        rows=(row(result(), result("aux", False, reason="8 values are NaN")), row(subject="tflite", runtime="litert")),
        controls=(
            Control("kernel-scaled-1.001", False, 1e-9, "not distinguished on main"),
            Control("another-sample", True, 1e-5, outputs=("main",)),
            Control("channels-reversed", False, 0.0, "not applicable", applicable=False),
        ),
        separation={"main": 1e-5},
        verdict="fail",
        reasons=("aux: 8 values are NaN",),
        failures=("saved-model: layer x: no such operator",),
    )
    found = failed(suite_of(to_junit(value)))
    assert found.pop("separation of the samples").startswith("output main: two samples differ by only 1e-05")
    assert found == {
        "onnx in onnxruntime on cpu: aux": "8 values are NaN",
        "tflite in litert on cpu": "no output was compared",
        "kernel-scaled-1.001": "control not detected: not distinguished on main",
        "saved-model": "saved-model: layer x: no such operator",
        "verdict": "fail: aux: 8 values are NaN",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "fail", "reasons": ("baseline: grew",)},
        {"verdict": "inconclusive", "reasons": ("nothing was compared",), "rows": ()},
        {"verdict": "inconclusive", "controls": ()},
        {"failures": ("onnx: no",)},
    ],
)
def test_a_suite_is_green_only_with_exit_code_0(fields):
    assert report(**fields).exit_code != 0
    assert failed(suite_of(to_junit(report(**fields))))


@pytest.mark.parametrize("separation", [{}, {"main": math.nan}, {"main": 0.0}])
def test_samples_that_cannot_be_distinguished(separation):
    assert "separation of the samples" in failed(suite_of(to_junit(report(separation=separation))))


def test_separation_of_low_precision_needs_three_tolerances():
    low = replace(BOUND, value=0.1, cap=0.1, floor=0.1)
    assert failed(suite_of(to_junit(report(tolerances={"main": low}, separation={"main": 0.31})))) == {}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_xml_is_valid_for_hostile_names(name):
    text = to_junit(hostile(name))
    suite = suite_of(text)
    assert all(each == "\n" or unicodedata.category(each)[0] not in "C" for each in text)
    names = [(case.get("classname"), case.get("name")) for case in suite.findall("testcase")]
    assert len(set(names)) == len(names)
    assert len(text) < 40_000
    assert {each.tag for each in suite.iter()} <= {
        "testsuite", "properties", "property", "testcase", "failure", "error", "system-out",
    }  # fmt: skip


# annotations


def test_a_pass_without_warnings_annotates_nothing():
    assert to_annotations(report()) == []


def test_what_failed_is_an_error_and_a_warning_is_a_warning():
    value = report(
        rows=(row(result("aux", False, reason="100% off")),),
        controls=(Control("kernel", False, 1e-9, "not distinguished on main"),),
        verdict="fail",
        reasons=("onnx in onnxruntime on cpu, output aux: 100% off", "baseline: grew"),
        warnings=("groups: odd, very",),
        failures=("tflite: cannot",),
    )
    assert to_annotations(value) == [
        "::error title=net%3A parity::onnx in onnxruntime on cpu, output aux: 100%25 off",
        "::error title=net%3A control not detected::control kernel: not distinguished on main",
        "::error title=net%3A not written::tflite: cannot",
        "::error title=net%3A fail::baseline: grew",
        "::warning title=net%3A warning::groups: odd, very",
    ]


def test_no_more_than_github_shows():
    lines = to_annotations(report(warnings=tuple(f"number {each}" for each in range(50))))
    assert len(lines) == MAX_PER_LEVEL
    assert lines[0].endswith("number 0")
    assert lines[-1].endswith(f"{50 - MAX_PER_LEVEL + 1} more of this kind; the report has them all")
    assert len(to_annotations(report(warnings=("x",) * MAX_PER_LEVEL))) == MAX_PER_LEVEL


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_neither_end_a_command_nor_start_one(name):
    lines = to_annotations(hostile(name))
    assert len(lines) >= 4
    for line in lines:
        assert line.startswith(("::error title=", "::warning title="))
        assert line.isprintable()
        assert len(line) < 1500
        title = line.removeprefix("::error title=").removeprefix("::warning title=").partition("::")[0]
        assert ":" not in title
        assert "," not in title
        assert "%0A" not in line.replace("%250A", "")


@pytest.mark.parametrize(("value", "yes"), [("true", True), ("", False), (None, False), ("false", False)])
def test_only_in_github_actions(value, yes):
    assert in_github_actions({} if value is None else {"GITHUB_ACTIONS": value}) is yes
