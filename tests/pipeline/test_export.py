"""`cnnexport MODEL`: the files of an export, and that bad input changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converter
from converter.core.data import WriteOptions
from converter.core.errors import ConversionError
from converter.report.table import to_json

ARTIFACTS = {"onnx": "model.onnx", "tflite": "model.tflite", "saved-model": "saved_model"}
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert", "saved-model": "tensorflow"}


def test_report_of_a_good_export(exported: Any) -> None:
    report = exported.report
    assert (report.verdict, report.exit_code, report.reasons, report.failures) == ("pass", 0, (), ())
    keras, *artifacts = report.rows
    assert (keras.subject, keras.passed) == ("keras", True)
    assert {row.subject: row.runtime for row in artifacts} == RUNTIMES
    for row in artifacts:
        assert row.passed
        assert row.device == "cpu"
        assert row.samples == 8
        assert row.facts["batches"] == [1, 3, 8]
        assert row.seconds > 0
        assert row.size > 0
        assert [each.output for each in row.outputs] == ["main", "aux"]
        for each in row.outputs:
            assert each.domain == "log-probability"
            assert each.top1_agreement == 1.0
            assert 0 < each.relative_l2 <= report.tolerances[each.output].value
            assert each.multiple == pytest.approx(each.relative_l2 / report.tolerances[each.output].noise)


def test_tolerance_comes_from_measured_noise(exported: Any) -> None:
    for tolerance in exported.report.tolerances.values():
        assert 0 < tolerance.noise < 1e-5
        assert tolerance.value == min(tolerance.cap, max(tolerance.floor, tolerance.factor * tolerance.noise))
        assert not tolerance.chosen


def test_controls_are_all_detected(exported: Any) -> None:
    controls = {control.name: control for control in exported.report.controls}
    assert {"another-sample", "channels-reversed", "channels-exchanged"} <= set(controls)
    assert [name for name in controls if name.startswith("kernel-scaled-1.001 ")]
    assert {f"{kind} in {RUNTIMES[kind]}: another sample" for kind in ARTIFACTS} <= set(controls)
    for control in controls.values():
        assert control.detected, control
        assert control.relative_l2 > max(each.value for each in exported.report.tolerances.values())


def test_directory_is_complete(exported: Any, snapshot: Callable[..., dict[str, str]]) -> None:
    found = snapshot(exported.directory)
    manifest = json.loads((exported.directory / "manifest.json").read_text())
    assert set(found) == {*manifest["files"], "manifest.json", "report.json", "report.html"}
    assert {name: record["sha256"] for name, record in manifest["files"].items()}.items() <= found.items()
    assert {each["format"]: each["path"] for each in manifest["artifacts"]} == ARTIFACTS
    assert manifest["source"]["builder"] == "tiny_nets:two_heads"
    assert manifest["tolerance"]["chosen"] is None
    assert [each["name"] for each in manifest["inputs"]] == ["image"]
    assert [each["name"] for each in manifest["outputs"]] == ["main", "aux"]
    assert {"tensorflow", "keras", "numpy"} <= set(manifest["environment"]["versions"])
    assert json.loads((exported.directory / "report.json").read_text()) == to_json(exported.report)
    assert [path.name for path in exported.directory.parent.iterdir()] == ["two_heads"]


def test_golden_arrays_are_what_keras_predicts(exported: Any) -> None:
    import tiny_nets

    with np.load(exported.directory / "golden.npz", allow_pickle=False) as golden:
        main, aux = tiny_nets.two_heads().predict(golden["input/image"], verbose=0)
        assert np.allclose(golden["reference/main"], main, rtol=1e-5, atol=1e-7)
        assert np.allclose(golden["reference/aux"], aux, rtol=1e-5, atol=1e-7)
        assert golden["exact/main"].dtype == np.float64
        exact = golden["exact/main"]
        assert np.abs(exact - main[: len(exact)]).max() < 1e-5
        (key,) = [key for key in golden.files if key.startswith("control/kernel-scaled") and key.endswith("/main")]
        assert np.abs(golden[key] - main[: len(golden[key])]).max() > 1e-5


def test_a_model_from_python_with_fixed_batch_and_channels_first(tmp_path: Path, nets: Path) -> None:
    """Five samples with a batch of four; the inputs are transposed for the runtime, not in the artifact."""
    import tiny_nets

    options = converter.ExportOptions(
        ("onnx",), tmp_path / "net", WriteOptions(batch=4, opset=15, layout="nchw"), samples=5
    )
    report = converter.export(tiny_nets.two_heads(seed=3), options)
    assert report.verdict == "pass", report.reasons
    (artifact,) = report.artifacts
    assert artifact.inputs[0].shape == (4, 3, 32, 32)
    assert artifact.options["opset"] == 15
    assert "Transpose" not in artifact.operators
    assert report.rows[-1].facts["batches"] == [4]
    assert converter.verify(tmp_path / "net").verdict == "pass"


def test_tolerance_of_the_user_is_recorded_as_chosen(cnnexport: Callable[..., Any]) -> None:
    arguments = ("tiny_nets:two_heads", "-f", "onnx", "--tolerance", "2e-5", "--json", "-o", "net")
    outcome = cnnexport(*arguments)
    assert outcome.code == 0
    for tolerance in outcome.json["tolerances"].values():
        assert (tolerance["value"], tolerance["value_max"], tolerance["chosen"]) == (2e-5, 2e-5, True)
        assert 0 < tolerance["noise"] < 1e-5
    assert json.loads(Path("net/manifest.json").read_text())["tolerance"]["chosen"] == 2e-5
    again = cnnexport("verify", "net", "--json")
    assert again.json["tolerances"]["main"]["chosen"] is True
    assert again.json["tolerances"]["main"]["value"] == 2e-5


def test_failed_proof_is_written_beside_the_previous_export(
    cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., Any]
) -> None:
    before = snapshot(copied)
    outcome = cnnexport("tiny_nets:two_heads", "-f", "onnx", "--tolerance", "1e-12", "-o", copied, "--json")
    assert outcome.code == 1
    assert outcome.json["verdict"] == "fail"
    assert any("onnx" in reason and "main" in reason for reason in outcome.json["reasons"])
    assert snapshot(copied) == before
    unproven = copied.with_name("two_heads.unproven")
    assert outcome.json["directory"] == str(unproven)
    assert (unproven / "model.onnx").is_file()
    assert cnnexport("verify", unproven).code == 1


def test_model_whose_outputs_do_not_differ_is_inconclusive(
    cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., Any]
) -> None:
    before = snapshot(copied)
    outcome = cnnexport("tiny_nets:stock", "-f", "onnx", "-o", copied, "--json")
    assert outcome.code == 9
    assert outcome.json["verdict"] == "inconclusive"
    assert any("main: no control changes it" in reason and "--range" in reason for reason in outcome.json["reasons"])
    assert snapshot(copied) == before


def test_unmapped_operator_leaves_the_other_formats(cnnexport: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cnnexport("tiny_nets:unmapped", "-o", "net", "--json", "--quiet")
    assert outcome.code == 6
    report = outcome.json
    assert [each["format"] for each in report["artifacts"]] == ["saved-model"]
    assert report["verdict"] == "pass"
    assert report["exit_code"] == 6
    assert len(report["failures"]) == 2
    for kind, failure in zip(("onnx", "tflite"), report["failures"], strict=True):
        assert failure.startswith(f"{kind}: strange (Bessel): ")
        assert "BesselI0e" in failure
        assert failure.splitlines()[0] in outcome.stderr
    assert {"saved_model", "golden.npz", "manifest.json", "report.json", "report.html"} == {
        path.name for path in (tmp_path / "net").iterdir()
    }


def test_unmapped_operator_alone_leaves_nothing(nets: Path, tmp_path: Path) -> None:
    options = converter.ExportOptions(("onnx", "tflite"), tmp_path / "net")
    with pytest.raises(ConversionError, match=r"onnx: strange \(Bessel\)[\s\S]*tflite: strange \(Bessel\)"):
        converter.export("tiny_nets:unmapped", options)
    assert list(tmp_path.iterdir()) == []


# Bad input: options after the model, exit code, what the message must contain


BAD_OPTIONS = [
    (["--format", "onx"], 2, ["--format onx", "did you mean onnx", "saved-model"]),
    (["--format", "savedmodel"], 2, ["did you mean saved-model"]),
    (["--opset", "12"], 2, ["--opset 12", "13 to 18"]),
    (["--opset", "19"], 2, ["--opset 19", "13 to 18"]),
    (["--batch", "0"], 2, ["--batch 0"]),
    (["--batch", "-3"], 2, ["--batch -3"]),
    (["--batch", "two"], 2, ["--batch"]),
    (["--samples", "1"], 2, ["--samples 1"]),
    (["--seed", "-1"], 2, ["--seed"]),
    (["--layout", "nchw", "--format", "tflite"], 2, ["--layout nchw"]),
    (["--layout", "nhcw"], 2, ["--layout"]),
    (["--device", "gpu"], 2, ["--device gpu", "cuda"]),
    (["--tolerance", "0"], 2, ["tolerance"]),
    (["--tolerance", "nan"], 2, ["tolerance"]),
    (["--input-shape", "32x"], 2, ["--input-shape 32x", "224x224x3"]),
    (["--input-shape", "big"], 2, ["--input-shape big"]),
    (["--input-shape", "32x0x1"], 2, ["--input-shape 32x0x1", "at least 1"]),
    (["--input-shape", "-32x32x1"], 2, ["--input-shape"]),
    (["--weights", "nowhere.keras"], 3, ["nowhere.keras", "no such file"]),
    (["--kwargs", "{"], 2, ["--kwargs"]),
    (["--no-such-option"], 2, ["--no-such-option"]),
]


def assert_refused(outcome: Any, code: int, fragments: list[str]) -> None:
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    assert 1 <= len(lines) <= 3, outcome.stderr
    assert lines[0].startswith("cnnexport: ")
    assert "Traceback" not in outcome.stderr
    for fragment in fragments:
        assert fragment in outcome.stderr


@pytest.mark.parametrize(("options", "code", "fragments"), BAD_OPTIONS, ids=[" ".join(each[0]) for each in BAD_OPTIONS])
def test_bad_options(
    options: list[str],
    code: int,
    fragments: list[str],
    cnnexport: Callable[..., Any],
    copied: Path,
    snapshot: Callable[..., Any],
) -> None:
    before = snapshot(copied.parent)
    outcome = cnnexport("resnet18", "--input-shape", "32x32x1", "-o", copied, "--quiet", *options)
    assert_refused(outcome, code, fragments)
    assert snapshot(copied.parent) == before


@pytest.mark.parametrize(
    ("model", "shape", "code", "fragments"),
    [
        ("resnet5O", "32x32x3", 2, ["resnet5O", "did you mean resnet50"]),
        ("resnxt50", "32x32x3", 2, ["did you mean resnext50"]),
        ("verfy", "32x32x3", 2, ["did you mean the command `cnnexport verify`"]),
        ("keras:ResNet5O", "64x64x3", 2, ["keras:ResNet50"]),
        ("resnet50", "196x224x3", 2, ["resnet50", "196x224", "197x197"]),
        ("vgg16", "31x32x1", 2, ["vgg16", "32x32"]),
        ("xception", "6x6x3", 2, ["xception", "7x7"]),
        ("resnet18", "32x32", 2, ["resnet18", "height, width, channels"]),
        ("tiny_nets:two_headz", None, 3, ["tiny_nets:two_headz", "two_heads"]),
        ("no_such_module:build", None, 3, ["no_such_module"]),
        ("missing.keras", None, 3, ["missing.keras"]),
    ],
)
def test_bad_models(
    model: str, shape: str | None, code: int, fragments: list[str], cnnexport: Callable[..., Any], copied: Path,
    snapshot: Callable[..., Any],
) -> None:  # fmt: skip
    before = snapshot(copied.parent)
    options = ["--input-shape", shape] if shape else []
    assert_refused(cnnexport(model, "-o", copied, "--quiet", *options), code, fragments)
    assert snapshot(copied.parent) == before


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("keras.layers.Lambda(lambda x: tf.debugging.check_numerics(x / 0.0, 'too bright'))", "too bright"),
        ("keras.layers.Lambda(lambda x: x.no_such_thing)", "shape of the Lambda's output"),
    ],
)
def test_model_that_keras_itself_cannot_run(
    layer: str, words: str, cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., Any]
) -> None:
    code = f"import keras, tensorflow as tf\ndef build(): return keras.Sequential([keras.Input((4, 4, 3)), {layer}])\n"
    Path("stubborn.py").write_text(code)
    before = snapshot(copied.parent)
    sys.modules.pop("stubborn", None)
    try:
        assert_refused(cnnexport("stubborn:build", "-o", copied, "--quiet"), 3, [words])
    finally:
        import keras

        keras.backend.clear_session()  # Keras stays in the name scope of a model that failed
    assert snapshot(copied.parent) == before


@pytest.fixture
def weights(nets: Path, tmp_path: Path) -> Callable[..., Path]:
    """A .weights.h5 file of tiny_nets:two_heads, with the weight at `path` replaced by `change` of it."""

    def make(path: str, change: Callable[[Any], Any]) -> Path:
        import h5py
        import tiny_nets

        file = tmp_path / "changed.weights.h5"
        tiny_nets.two_heads(seed=5).save_weights(file)
        with h5py.File(file, "r+") as stored:
            value = change(stored[path][()])
            del stored[path]
            stored[path] = value
        return file

    return make


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda value: value[:, :, :, :-1], "grouped"),
        (lambda value: np.full_like(value, np.nan), "grouped"),
        (lambda value: np.where(value == value.max(), np.inf, value), "grouped"),
    ],
    ids=["wrong-shape", "nan", "infinity"],
)
def test_bad_weights_name_the_layer(
    change: Callable[[Any], Any],
    fragment: str,
    weights: Callable[..., Path],
    cnnexport: Callable[..., Any],
    copied: Path,
    snapshot: Callable[..., Any],
) -> None:
    before = snapshot(copied.parent)
    file = weights("layers/conv2d_1/vars/0", change)
    outcome = cnnexport("tiny_nets:two_heads", "--weights", file, "-f", "onnx", "-o", copied, "--quiet")
    assert_refused(outcome, 3, [fragment])
    assert snapshot(copied.parent) == before


def test_good_weights_are_used(weights: Callable[..., Path], cnnexport: Callable[..., Any]) -> None:
    file = weights("layers/conv2d_1/vars/0", lambda value: value)
    outcome = cnnexport("tiny_nets:two_heads", "--weights", file, "-f", "onnx", "-o", "net", "--quiet", "--json")
    assert outcome.code == 0
    import onnx
    import tiny_nets

    model = onnx.load("net/model.onnx")
    kernel = next(onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "main/kernel")
    assert np.array_equal(kernel, tiny_nets.two_heads(seed=5).get_layer("main").kernel.numpy())


def test_output_that_is_a_file(cnnexport: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    assert_refused(cnnexport("resnet18", "-o", "taken", "--quiet"), 7, ["taken", "is a file"])
    assert_refused(cnnexport("resnet18", "-o", "taken/net", "--quiet"), 7, ["taken"])
    assert (tmp_path / "taken").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_output_that_cannot_be_written(cnnexport: Callable[..., Any]) -> None:
    assert_refused(cnnexport("resnet18", "-o", "/proc/cnnexport/net", "--quiet"), 7, ["/proc/cnnexport/net"])


def test_output_that_is_not_an_export(cnnexport: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert_refused(cnnexport("resnet18", "-o", "mine", "--quiet"), 7, ["mine", "not an export"])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_foreign_file_in_an_export_is_not_deleted(cnnexport: Callable[..., Any], copied: Path) -> None:
    (copied / "notes.txt").write_text("keep me")
    assert_refused(cnnexport("resnet18", "-o", copied, "--quiet"), 7, ["notes.txt"])
    assert (copied / "notes.txt").read_text() == "keep me"


def test_locked_output(cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., Any]) -> None:
    before = snapshot(copied)
    code = "import sys; from pathlib import Path; from converter import bundle\n"
    code += "with bundle.stage(Path(sys.argv[1])):\n    print('locked', flush=True)\n    sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, copied], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert_refused(cnnexport("resnet18", "-o", copied, "--quiet"), 7, ["another cnnexport"])
        holder.communicate("")
    assert snapshot(copied) == before


def test_cuda_without_a_gpu(
    cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    before = snapshot(copied.parent)
    assert_refused(cnnexport("resnet18", "-o", copied, "--device", "cuda", "--quiet"), 5, ["cuda"])
    assert_refused(cnnexport("verify", copied, "--device", "cuda", "--quiet"), 5, ["cuda"])
    assert snapshot(copied.parent) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_interrupted_export_leaves_the_previous_one(
    number: signal.Signals, copied: Path, snapshot: Callable[..., Any], nets: Path
) -> None:
    """The signal is sent while artifacts are being written; afterwards an export to the directory works again."""
    before = snapshot(copied)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(nets), *sys.path])}
    command = [sys.executable, "-m", "converter", "tiny_nets:two_heads", "-o", str(copied)]
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "write onnx" in line:
                process.send_signal(number)
                break
        assert "write onnx" in seen[-1], seen
        rest = process.stderr.read()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in rest
    assert snapshot(copied) == before
    if number == signal.SIGINT:
        assert [path.name for path in copied.parent.iterdir()] == ["two_heads"]
    options = converter.ExportOptions(("onnx",), copied)
    assert converter.export("tiny_nets:two_heads", options).verdict == "pass"
    assert sorted(path.name for path in copied.parent.iterdir()) == ["two_heads"]
    assert not (copied / "model.tflite").exists()


def test_an_export_worse_than_its_baseline_replaces_nothing(
    cnnexport: Callable[..., Any], copied: Path, snapshot: Callable[..., dict[str, str]]
) -> None:
    """The baseline may be the report in the directory that the export would replace."""
    before = snapshot(copied)
    outcome = cnnexport(
        "tiny_nets:two_heads", "-f", "onnx", "-o", copied, "--baseline", copied / "report.json", "--json"
    )
    assert outcome.code == 1
    assert snapshot(copied) == before
    unproven = copied.with_name("two_heads.unproven")
    assert json.loads((unproven / "report.json").read_text()) == outcome.json
    assert outcome.json["directory"] == str(unproven)
    assert any(reason.startswith("baseline: tflite: written in the baseline") for reason in outcome.json["reasons"])
    assert "<title>fail: two_heads</title>" in (unproven / "report.html").read_text(encoding="utf-8")


def test_a_new_export_replaces_the_old_one(cnnexport: Callable[..., Any], copied: Path) -> None:
    assert cnnexport("tiny_nets:two_heads", "-f", "tflite", "-o", copied).code == 0
    assert sorted(path.name for path in copied.iterdir()) == [
        "golden.npz", "layers.json", "manifest.json", "model.tflite", "report.html", "report.json"
    ]  # fmt: skip
    shutil.rmtree(copied)
