"""`--baseline`, `--growth`, `--junit` and `--html`: limits from an earlier report, and report files."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_reports import BOUND, artifact, report, result, row

from converter import bundle
from converter.core.data import Artifact, Golden, TensorSpec
from converter.core.errors import InputError, UsageError
from converter.core.results import Report
from converter.pipeline.arguments import export_options
from converter.report.baseline import Baseline, compared_with, read_baseline
from converter.report.table import print_json


def saved(value: Report, path: Path) -> Path:
    file = io.StringIO()
    print_json(value, file)
    path.write_text(file.getvalue())
    return path


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Report]:
    """Compares the second report with the first, which is read back from its JSON."""

    def made(before: Report, after: Report, *growth: float) -> Report:
        return compared_with(after, read_baseline(saved(before, tmp_path / "before.json"), *growth))

    return made


def with_error(error: float | None, **fields: Any) -> Report:
    return report(rows=(row(result(error=error)),), **fields)


def test_the_same_again_is_unchanged(compare):
    value = report()
    assert compare(value, value) is value
    assert compared_with(value, None) is value


@pytest.mark.parametrize(
    ("before", "after", "growth", "fails"),
    [
        (3e-6, 6e-6, 2, False),  # exactly the factor
        (3e-6, 6.1e-6, 2, True),
        (3e-6, 6.1e-6, 3, False),
        (3e-6, 1e-6, 1, False),
        (1e-7, 1.9e-6, 2, False),  # nineteen times, but by less than the noise of 2e-6
        (1e-7, 2.2e-6, 2, True),
        (0.0, 1e-6, 2, False),
        (0.0, 3e-6, 2, True),
        (3e-6, float("inf"), 2, True),
        (3e-6, float("nan"), 2, True),
        (float("inf"), 3e-6, 2, False),
        (None, 3e-6, 2, False),
        (3e-6, 5e-6, 1, True),
        (3e-6, 4.9e-6, 1, False),
    ],
)
def test_growth_beyond_the_factor_and_the_noise(before, after, growth, fails, compare):
    extra = row(result(), subject="other")
    old = report(rows=(row(result(error=before)), extra))
    new = report(rows=(row(result(error=after)), extra))
    found = compare(old, new, growth)
    assert found.exit_code == (1 if fails else 0)
    if fails:
        (reason,) = found.reasons
        assert reason.startswith("baseline: onnx in onnxruntime on cpu, output main: relative L2 grew from ")
        assert f"more than {growth} times" in reason


def test_without_a_noise_the_factor_alone_decides(compare):
    silent = {"main": BOUND.__class__(1e-5, 1e-5, None, None, 8.0, 1e-6, 1e-4)}
    assert compare(with_error(1e-9), with_error(3e-9, tolerances=silent)).exit_code == 1
    assert compare(with_error(1e-9), with_error(2e-9, tolerances=silent)).exit_code == 0


def test_each_output_has_its_own_limit(compare):
    before = report(rows=(row(result("a", error=1e-6), result("b", error=9e-6)),), tolerances={"a": BOUND, "b": BOUND})
    after = report(rows=(row(result("a", error=9e-6), result("b", error=9e-6)),), tolerances={"a": BOUND, "b": BOUND})
    (reason,) = compare(before, after).reasons
    assert "output a" in reason


def test_a_missing_row_fails_and_a_new_one_does_not(compare):
    onnx, tflite = report().rows
    both = report(rows=(row(result(), result("aux")), tflite))
    gone = compare(both, report(rows=(onnx,), artifacts=(artifact(),)))
    assert (gone.verdict, len(gone.reasons)) == ("fail", 3)
    for text in (
        "onnxruntime on cpu, output aux: compared in the baseline",
        "tflite in litert on cpu: compared in the baseline",
        "tflite: written in the baseline",
    ):
        assert any(text in reason for reason in gone.reasons)
    assert compare(report(rows=(onnx,), artifacts=(artifact(),)), both).verdict == "pass"


def test_the_row_of_keras_itself_is_not_required_by_a_later_check(compare):
    keras = row(result(error=1e-7), subject="keras-rewritten", runtime="keras")
    export = report(rows=(keras, *report().rows))
    assert compare(export, report()).verdict == "pass"
    worse = row(result(error=1e-4), subject="keras-rewritten", runtime="keras")
    assert "keras-rewritten" in compare(export, report(rows=(worse, *report().rows))).reasons[0]


@pytest.mark.parametrize(
    ("operators", "change"),
    [({"Conv": 4, "Relu": 2}, "Conv 3 -> 4"), ({"Conv": 3}, "Relu 2 -> 0"),
     ({"Conv": 3, "Relu": 2, "Transpose": 50}, "Transpose 0 -> 50")],
)  # fmt: skip
def test_changed_operator_counts_fail(operators, change, compare):
    found = compare(report(), report(artifacts=(artifact("onnx", **operators), artifact("tflite", CONV_2D=3))))
    assert found.reasons == (f"baseline: onnx: operator counts changed: {change}",)
    assert found.exit_code == 1


def test_reasons_are_added_and_a_failure_outranks_inconclusive(compare):
    found = compare(with_error(1e-6), with_error(1e-5, verdict="inconclusive", reasons=("why",)))
    assert found.verdict == "fail"
    assert found.reasons[0] == "why"
    assert len(found.reasons) == 2


def test_baseline_of_another_model_is_refused(compare):
    with pytest.raises(InputError, match="of the model 'other', not 'net'"):
        compare(report(model="other"), report())


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '"text"', "{}", '{"model": "net"}', "[" * 200_000, "\x00",
        '{"model": "net", "rows": [], "artifacts": []}',
        '{"model": "net", "rows": [{}], "artifacts": []}',
        '{"model": "net", "rows": {"a": 1}, "artifacts": []}',
        '{"schema": 1, "model": "net", "files": {}, "artifacts": []}',
        '{"model": 3, "rows": [], "artifacts": []}',
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_report_is_refused(text, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="--baseline") as refused:
        read_baseline(path)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("key", "value"), [("relative_l2", "small"), ("relative_l2", True), ("relative_l2", []), ("output", None)]
)
def test_a_wrong_field_is_named(key, value, tmp_path):
    path = saved(report(), tmp_path / "report.json")
    raw = json.loads(path.read_text())
    raw["rows"][0]["outputs"][0][key] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=key):
        read_baseline(path)


def test_operators_that_are_not_counts_are_refused(tmp_path):
    path = saved(report(), tmp_path / "report.json")
    path.write_text(path.read_text().replace('"Conv": 3', '"Conv": "3"'))
    with pytest.raises(InputError, match="operators"):
        read_baseline(path)


def test_missing_directory_and_binary_baselines_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.json", tmp_path, tmp_path / "binary"):
        with pytest.raises(InputError):
            read_baseline(path)


def test_a_baseline_without_limits_is_refused(tmp_path):
    with pytest.raises(InputError, match="no error to compare"):
        read_baseline(saved(with_error(None), tmp_path / "report.json"))


@pytest.mark.parametrize("growth", [0.5, 0.0, -1.0, float("nan"), float("inf")])
def test_growth_that_is_not_a_factor(growth, tmp_path):
    with pytest.raises(UsageError, match="--growth"):
        read_baseline(saved(report(), tmp_path / "report.json"), growth)


# the command line, on an export of one matrix


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An artifact directory as an export writes it, made without Keras."""
    from onnx import TensorProto, helper, numpy_helper, save

    generator = np.random.default_rng(3)
    weights = generator.normal(size=(6, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["image", "weights"], ["main"])]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 6])
    returned = helper.make_tensor_value_info("main", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "net", [given], [returned], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net"
    path.mkdir()
    save(model, str(path / "model.onnx"))
    inputs = generator.normal(size=(3, 6)).astype(np.float32)
    exact = inputs.astype(np.float64) @ weights.astype(np.float64)
    bundle.write_golden(path / "golden.npz", Golden({"image": inputs}, {"main": inputs @ weights}, {"main": exact}, {}))
    image, main = TensorSpec("image", (None, 6)), TensorSpec("main", (None, 4))
    size = (path / "model.onnx").stat().st_size
    written = Artifact("onnx", "model.onnx", "float32", (image,), (main,), {"MatMul": 1}, size, 0.1)
    bundle.write_manifest(
        path,
        {"model": "net", "source": {"kind": "function"}, "artifacts": (written,), "inputs": (image,),
         "outputs": (main,), "seed": 0},
    )  # fmt: skip
    return path


@pytest.fixture
def verified(directory: Path, tmp_path: Path, cnnexport: Callable[..., Any]) -> Path:
    """The report.json of a check that passed."""
    outcome = cnnexport("verify", directory, "--json", "--quiet")
    assert outcome.code == 0, outcome
    (tmp_path / "before.json").write_text(outcome.stdout)
    return tmp_path / "before.json"


def test_verify_writes_every_report(directory, verified, tmp_path, cnnexport, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    names = sorted(path.name for path in directory.iterdir())
    outcome = cnnexport("verify", directory, "--quiet", "--junit", "j.xml", "--html", "h.html", "--baseline", verified)
    assert (outcome.code, outcome.stderr) == (0, "")
    suite = ET.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    page = (tmp_path / "h.html").read_text(encoding="utf-8")
    assert "<title>pass: net</title>" in page
    assert page.count("<figure") == 1
    for record in json.loads((directory / "manifest.json").read_text())["files"].values():
        assert record["sha256"] in page
    assert sorted(path.name for path in directory.iterdir()) == names


def test_a_baseline_that_was_better_fails_in_every_report(directory, verified, tmp_path, cnnexport, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    verified.write_text(verified.read_text().replace('"MatMul": 1', '"MatMul": 2'))
    options = ("--baseline", verified, "--junit", "j.xml", "--html", directory / "report.html")
    outcome = cnnexport("verify", directory, "--quiet", "--json", *options)
    assert outcome.code == outcome.json["exit_code"] == 1
    reason = "baseline: onnx: operator counts changed: MatMul 2 -> 1"
    assert outcome.json["reasons"] == [reason]
    assert outcome.stderr.splitlines()[0] == f"::error title=net%3A fail::{reason}"
    (failure,) = ET.parse(tmp_path / "j.xml").getroot().iter("failure")
    assert reason in failure.get("message", "")
    assert reason in (directory / "report.html").read_text(encoding="utf-8").replace("&gt;", ">")
    with bundle.stage(directory):
        pass  # the page is a known file: the next export does not refuse the directory


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--baseline", "nowhere.json"), 3, "nowhere.json"),
        (("--baseline", "net/manifest.json"), 3, "manifest.json"),
        (("--growth", "3"), 2, "--baseline"),
        (("--junit", "no/such/j.xml"), 7, "no such directory"),
        (("--html", "net"), 7, "is a directory"),
        (("--junit", "net/junit.xml"), 2, "outside"),
    ],
)
def test_wrong_options_are_refused_before_the_work(options, code, words, directory, cnnexport, monkeypatch):

    monkeypatch.setattr("converter.pipeline.verify.locate", lambda *given, **named: pytest.fail("the work began"))
    outcome = cnnexport("verify", directory, "--quiet", *options)
    assert outcome.code == code
    assert words in outcome.stderr
    assert 1 <= len(outcome.stderr.splitlines()) <= 3


def test_export_passes_the_baseline_on(verified, tmp_path, cnnexport, monkeypatch):
    seen: list[Baseline | None] = []

    def fake(model: str, **named: Any) -> Report:
        seen.append(export_options(None, {key: named[key] for key in ("baseline", "growth")}).baseline)
        return report()

    monkeypatch.setattr("converter.pipeline.export.export", fake)
    assert cnnexport("net", "--baseline", verified, "--growth", "1.5", "--quiet").code == 0
    assert cnnexport("net", "--quiet").code == 0
    first, second = seen
    assert second is None
    assert first is not None
    assert (first.model, first.growth, first.operators) == ("net", 1.5, {("onnx", "float32"): {"MatMul": 1}})
