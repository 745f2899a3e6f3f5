"""The public API: its names, its keywords, and arguments that are refused before anything is loaded or written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_reports import HOSTILE, report, result, row

import converter
from converter.core.errors import (
    CnnExportError,
    ConversionError,
    InconclusiveError,
    InputError,
    OutputError,
    ParityError,
    UsageError,
)
from converter.formats import FORMATS
from converter.pipeline.arguments import export_options, verify_options

PUBLIC = [
    "Baseline",
    "ChildError",
    "CnnExportError",
    "ConversionError",
    "Evaluation",
    "ExportOptions",
    "FleetOptions",
    "FleetReport",
    "FleetRow",
    "InconclusiveError",
    "InputError",
    "InspectResult",
    "OutputError",
    "Package",
    "ParityError",
    "PredictResult",
    "Report",
    "RewriteResult",
    "Source",
    "SourceOptions",
    "TrainResult",
    "UnavailableError",
    "UnsafeError",
    "UsageError",
    "WriteOptions",
    "__version__",
    "evaluate",
    "export",
    "fleet",
    "inspect",
    "load",
    "package",
    "predict",
    "rewrite",
    "train",
    "verify",
]


def test_the_public_names_exist_and_are_exactly_these() -> None:
    assert sorted(converter.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(converter, name) is not None
    assert set(PUBLIC) <= set(dir(converter))
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        _ = converter.exprot  # type: ignore[attr-defined]


def test_cnnexport_is_the_same_api() -> None:
    import cnnexport

    for name in PUBLIC:
        assert getattr(cnnexport, name) is getattr(converter, name)
    space: dict[str, Any] = {}
    exec("from cnnexport import *", space)
    assert space.keys() >= set(PUBLIC) - {"__version__"}
    with pytest.raises(AttributeError, match="module 'cnnexport' has no attribute 'exprot'"):
        _ = cnnexport.exprot


@pytest.mark.parametrize("package", ["converter", "cnnexport"])
def test_importing_the_api_loads_nothing_heavy(package: str) -> None:
    code = f"import {package}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx", "click", "rich", "h5py"}
    assert not heavy & set(done.stdout.split())


def test_every_error_is_the_class_of_its_exit_code() -> None:
    errors = [getattr(converter, name) for name in PUBLIC if name.endswith("Error") and name != "CnnExportError"]
    assert {each.exit_code for each in errors} == set(range(1, 10))
    assert all(issubclass(each, CnnExportError) for each in errors)


def test_keywords_are_flat_and_override_options() -> None:
    options = export_options(
        converter.ExportOptions(("tflite",), samples=3),
        {"formats": "onnx", "output": "here", "opset": 15, "weights": Path("w.h5"), "input_shape": [32, 32, 1]},
    )
    assert options.formats == ("onnx",)
    assert options.output == Path("here")
    assert (options.write.opset, options.samples) == (15, 3)
    assert (options.source.weights, options.source.input_shape) == ("w.h5", (32, 32, 1))


@pytest.mark.parametrize(
    "given", ["onnx,tflite", "ONNX, TFLite", ["onnx", "tflite"], ("Onnx,tflite",), iter(["onnx", "tflite", "onnx"])]
)
def test_formats_are_names_lists_or_names_with_commas_in_any_case(given: Any) -> None:
    assert export_options(None, {"formats": given}).formats == ("onnx", "tflite")


def test_without_formats_all_are_written() -> None:
    assert export_options(None, {}).formats == tuple(FORMATS)
    assert export_options(None, {"formats": "saved_model"}).formats == ("saved-model",)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"formats": ["onxx"]}, "did you mean onnx?"),
        ({"formats": []}, "no format given"),
        ({"formats": None}, "formats: expected a name or a list of names, not None"),
        ({"formats": [1]}, "one of them is a value of type int"),
        ({"format": "onnx"}, "did you mean formats?"),
        ({"output": 3}, "output: expected a path, not a value of type int"),
        ({"output": ""}, "not an empty string"),
        ({"output": b"x"}, "output: expected a path"),
        ({"output": "a\0b"}, "without NUL"),
        ({"opset": "17"}, "opset: expected a whole number, not a value of type str"),
        ({"opset": 12}, "--opset 12: out of range"),
        ({"opset": True}, "expected a whole number"),
        ({"batch": 0}, "--batch 0: must be at least 1"),
        ({"samples": 1}, "at least two samples"),
        ({"samples": 2.5}, "samples: expected a whole number"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"classes": 0}, "--classes 0: must be at least 1"),
        ({"layout": "nwhc"}, "--layout nwhc: choose from nhwc, nchw"),
        ({"layout": "nchw", "formats": "tflite"}, "only ONNX can be channels-first"),
        ({"groups": "both"}, "--groups both: choose from preserve, as-written"),
        ({"device": "gpu"}, "--device gpu: choose from cpu, cuda"),
        ({"device": None}, "device: expected a name, not None"),
        ({"tolerance": 0}, "give a positive number"),
        ({"tolerance": float("nan")}, "give a positive number"),
        ({"tolerance": "1e-5"}, "tolerance: expected a number"),
        ({"trust": "yes"}, "trust: expected True or False"),
        ({"force": 1}, "force: expected True or False"),
        ({"kwargs": "classes=1"}, "kwargs: expected a dict"),
        ({"builder": len}, "builder: expected module:function"),
        ({"input_shape": (0, 32, 3)}, "input_shape: expected sizes"),
        ({"input_shape": "224x224x3"}, "input_shape: expected sizes"),
        ({"custom_objects": 7}, "custom_objects: expected a name"),
        ({"growth": 2.0}, "no effect without a baseline"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_usage_errors_before_anything_is_loaded(
    keywords: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("converter.sources.opened", lambda *given: pytest.fail("the source was looked at"))
    with pytest.raises(UsageError) as caught:
        converter.export("resnet18", **keywords)
    assert words in str(caught.value)
    assert 1 <= len(str(caught.value).splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (None, UsageError, "expected a keras.Model, a path, or the text of a source, not None"),
        (["resnet50"], UsageError, "not a value of type list"),
        (50, UsageError, "not a value of type int"),
        (Path("folder"), InputError, "a directory, not a file"),
        ("./folder", InputError, "a directory, not a file"),
        (Path("resnet50"), InputError, "no such file"),  # a path is a file even if the zoo has a model of its name
        (Path("nowhere.keras"), InputError, "no such file"),
        ("resnet5", UsageError, "did you mean resnet50?"),
        ("", UsageError, "no such model"),
    ],
)
def test_invalid_models_are_refused_and_nothing_is_written(
    model: Any, error: type[CnnExportError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(error) as caught:
        converter.export(model, formats="onnx")
    assert words in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_options_of_another_type_and_an_output_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected ExportOptions, not a value of type dict"):
        converter.export("resnet18", {"formats": "onnx"})  # type: ignore[arg-type]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        converter.export("resnet18", output=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("directory", "keywords", "error", "words"),
    [
        (None, {}, UsageError, "directory: expected a path, not None"),
        ("nowhere", {}, InputError, "no such directory"),
        (".", {"runtimes": "onnxruntim"}, UsageError, "no such runtime"),
        (".", {"runtime": "onnxruntime"}, UsageError, "did you mean runtimes?"),
        (".", {"runtimes": 3}, UsageError, "runtimes: expected a name"),
        (".", {"tolerance": -1}, UsageError, "positive"),
        (".", {"baseline": "nowhere.json"}, InputError, "nowhere.json"),
        (".", {"baseline": 3}, UsageError, "baseline: expected a path"),
    ],
)
def test_wrong_arguments_of_verify(directory: Any, keywords: Any, error: Any, words: str, tmp_path: Path) -> None:
    place = tmp_path if directory == "." else directory
    with pytest.raises(error) as caught:
        converter.verify(place, **keywords)
    assert words in str(caught.value)


def test_names_of_runtimes_may_be_one_string() -> None:
    options, baseline = verify_options({"runtimes": "onnxruntime, litert"})
    assert options.runtimes == ("onnxruntime", "litert")
    assert baseline is None


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"simplyfy": True}, "did you mean simplify?"),
        ({"samples": 1}, "at least two samples"),
        ({"groups": "x"}, "choose from"),
        ({"simplify": 1}, "True or False"),
    ],
)
def test_wrong_arguments_of_rewrite(keywords: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        converter.rewrite("resnet18", tmp_path / "new.keras", **keywords)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_of_load() -> None:
    with pytest.raises(UsageError, match="did you mean input_shape"):
        converter.load("resnet18", input_shap=(32, 32, 1))  # type: ignore[call-arg]


def test_a_directory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent is a file, so that not even root can write; a read-only directory would not stop root."""
    (tmp_path / "artifacts").write_text("a file")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="artifacts"):
        converter.export("resnet18", formats="onnx", input_shape=(32, 32, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


def test_raise_for_verdict() -> None:
    report().raise_for_verdict()
    for verdict, kind in (("fail", ParityError), ("inconclusive", InconclusiveError)):
        with pytest.raises(kind, match="too far"):
            report(verdict=verdict, reasons=("too far", "more")).raise_for_verdict()
    with pytest.raises(ConversionError, match="no counterpart"):
        report(failures=("tflite: no counterpart",)).raise_for_verdict()


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_report_in_a_notebook_is_inert_html(name: str) -> None:
    text = report(
        rows=(row(result(HOSTILE[name], passed=False)),), verdict="fail", reasons=(HOSTILE[name],)
    )._repr_html_()
    assert text.startswith("<div>")
    assert "FAIL" in text
    for forbidden in ("<script", "<img", "<style", "href", "\x1b"):
        assert forbidden not in text


def test_a_model_file_by_its_path_and_an_output_as_text(
    tmp_path: Path, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny_nets

    monkeypatch.chdir(tmp_path)
    tiny_nets.two_heads(seed=5).save(tmp_path / "mine.keras")
    proven = converter.export(Path("mine.keras"), formats="onnx", samples=4)
    assert (proven.verdict, proven.directory, proven.rows[0].samples) == ("pass", "artifacts/mine", 4)
    failed = converter.export("mine.keras", formats="onnx", output="dir", samples=2, tolerance=1e-12)
    assert (failed.verdict, failed.directory) == ("fail", "dir.unproven")
    with pytest.raises(ParityError):
        failed.raise_for_verdict()
    assert converter.verify("artifacts/mine", runtimes="onnxruntime").verdict == "pass"
    assert converter.load("mine.keras").model.name == "two_heads"


class TestAnotherSource:
    """artifacts/NAME with the export of another source is replaced only on request."""

    @pytest.fixture
    def existing(self, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nets: Path) -> Path:
        """artifacts/two_heads, the export of tiny_nets:two_heads, in the current directory."""
        import shutil

        monkeypatch.chdir(tmp_path)
        return Path(shutil.copytree(exported.directory, tmp_path / "artifacts" / "two_heads"))

    def test_two_sources_of_one_name(
        self, existing: Path, nets: Path, snapshot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = snapshot(existing)
        copied = existing.parent.parent / "copied_nets.py"
        copied.write_text((nets / "tiny_nets.py").read_text())
        monkeypatch.setattr("converter.pipeline.export.write_artifacts", lambda *given: pytest.fail("the work began"))
        for other in (f"{copied}:two_heads", "copied_nets:two_heads"):
            with pytest.raises(OutputError, match="contains the export of another source") as caught:
                converter.export(other, formats="onnx")
            assert "--force" in str(caught.value)
        assert snapshot(existing) == before

    def test_the_same_source_a_named_directory_or_force(self, existing: Path, nets: Path) -> None:
        copied = existing.parent.parent / "copied_nets.py"
        copied.write_text((nets / "tiny_nets.py").read_text())
        assert converter.export("tiny_nets:two_heads", formats="onnx", samples=2).verdict == "pass"
        assert converter.export(f"{copied}:two_heads", formats="onnx", samples=2, force=True).verdict == "pass"
        named = converter.export("tiny_nets:two_heads", formats="onnx", samples=2, output=existing)
        assert named.verdict == "pass"

    def test_the_identity_contains_no_path(self, exported: Any) -> None:
        text = (exported.directory / "manifest.json").read_text()
        assert '"identity": "function tiny_nets:two_heads"' in text
        assert os.fspath(exported.directory) not in text
