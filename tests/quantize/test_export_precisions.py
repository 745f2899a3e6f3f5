"""Exports in other precisions: files, sizes, manifest, and a proof that fails where it has to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converter
from converter.core.errors import UsageError
from converter.quantize import onnx_int8, tflite_int8
from converter.quantize.tflite_file import INT8, TfliteFile

NAMES = ("fp16", "int8", "int8-weights")
FORMATS = ("onnx", "tflite")
VERIFY = ("--runtime", "onnxruntime", "--runtime", "litert", "--quiet")


def manifest(directory: Path) -> Any:
    return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))


def artifacts(directory: Path, precision: str) -> dict[str, Any]:
    return {each["format"]: each for each in manifest(directory)["artifacts"] if each["precision"] == precision}


@pytest.fixture
def copy(precise: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(precise, tmp_path / "copy" / "two_heads"))


def test_every_precision_is_a_file_of_each_format(precise: Path) -> None:
    for name, precision in (("fp16", "float16"), ("int8", "int8"), ("int8-weights", "int8-weights")):
        found = artifacts(precise, precision)
        assert sorted(found) == sorted(FORMATS)
        for form, each in found.items():
            assert each["path"] == f"model.{name}.{form}"
            assert (precise / each["path"]).stat().st_size == each["size"]


def test_int8_computes_in_int8_grouped_convolutions_too(precise: Path) -> None:
    import onnx

    model = onnx.load(str(precise / "model.int8.onnx"))
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    assert kinds["grouped/kernel/q"] == onnx.TensorProto.INT8
    (grouped,) = [node for node in model.graph.node if node.op_type == "Conv" and "grouped/kernel" in node.input]
    assert next(each.i for each in grouped.attribute if each.name == "group") == 4
    file = TfliteFile(precise / "model.int8.tflite")
    for operator in file.operators:
        if file.kind(operator) in ("CONV_2D", "FULLY_CONNECTED"):
            assert [file.tensors[index].type for index in (*operator.inputs[:2], *operator.outputs)] == [INT8] * 3
    kernel = next(
        each for each in file.operators if file.kind(each) == "CONV_2D" and file.tensors[each.inputs[1]].shape[3] == 4
    )
    assert len(file.tensors[kernel.inputs[1]].quantization.scale) == 32


def test_both_formats_have_the_same_scales(precise: Path) -> None:
    for each in artifacts(precise, "int8").values():
        scales = each["options"]["quantization"]["scales"]
        assert scales["of_the_other_format"] == scales["tensors"]
    import onnx

    weights = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(str(precise / "model.int8.onnx")).graph.initializer
    }
    file = TfliteFile(precise / "model.int8.tflite")
    scales = [
        tensor.quantization.scale for tensor in file.tensors if tensor.type == INT8 and tensor.quantization is not None
    ]
    found = {tuple(np.float32(each) for each in scale) for scale in scales}
    for name in ("stem/kernel/s", "grouped/kernel/s", "main/kernel/s"):
        assert tuple(weights[name]) in found
    single = {scale[0] for scale in found if len(scale) == 1}
    activations = {float(array) for name, array in weights.items() if name.startswith("int8/s")}
    assert activations == {float(each) for each in single}


def test_the_report_says_how_far_both_formats_agree(precise: Path) -> None:
    said = [each for each in manifest(precise)["warnings"] if "stored bit for bit alike" in each]
    assert len(said) == 1
    found = re.search(r": (\d+) of (\d+) tensors", said[0])
    assert found is not None
    assert 0 <= int(found[1]) <= int(found[2])
    assert int(found[2]) >= 4
    share = re.search(r", ([\d.]+)% of its values are equal", said[0])
    assert share is None or float(share[1]) > 95


def test_the_manifest_says_how_int8_was_made(precise: Path, samples: Path) -> None:
    facts = artifacts(precise, "int8")["onnx"]["options"]["quantization"]
    assert facts["calibration"]["source"] == samples.name
    assert len(facts["calibration"]["sha256"]) == 64
    assert facts["calibration"]["samples"] == len(facts["sample_hashes"]) == 36
    assert {each["operator"].split("/")[0] for each in facts["kept_float"]} == {"main", "aux"}
    assert [each["layer"] for each in facts["saturation"]["layers"]] == ["stem", "grouped", "main", "aux"]
    assert 0 <= facts["spread"]["median"] <= facts["spread"]["largest"] < 1


def test_an_intact_directory_is_verified_in_every_precision(cnnexport: Callable[..., Any], precise: Path) -> None:
    outcome = cnnexport("verify", precise, "--json", *VERIFY)
    assert outcome.code == 0, outcome.stderr
    rows = {(row["subject"], row["precision"]): row for row in outcome.json["rows"]}
    for precision in ("float32", "float16", "int8", "int8-weights"):
        for form in FORMATS:
            assert rows[form, precision]["passed"]
    named = [each["name"] for each in outcome.json["controls"] if each["detected"]]
    for form in FORMATS:
        for control in ("int8-scale-doubled", "int8-zero-point-shifted"):
            assert any(each.startswith(f"{form} int8: {control}") for each in named)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMATS)
def test_one_file_is_verified_alone(cnnexport: Callable[..., Any], precise: Path, name: str, form: str) -> None:
    outcome = cnnexport("verify", precise / f"model.{name}.{form}", "--json", "--quiet")
    assert outcome.code == 0, outcome.stderr
    assert {row["subject"] for row in outcome.json["rows"]} <= {"keras", form}


def test_a_wrong_scale_in_an_int8_file_fails(
    cnnexport: Callable[..., Any], copy: Path, repair: Callable[[Path, str], None]
) -> None:
    import onnx

    path = copy / "model.int8.onnx"
    model = onnx.load(str(path))
    (scale,) = [each for each in model.graph.initializer if each.name == "grouped/kernel/s"]
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(2), scale.name))
    onnx.save(model, str(path))
    repair(copy, path.name)
    outcome = cnnexport("verify", copy, "--json", *VERIFY)
    assert outcome.code == 1
    failed = [(row["subject"], row["precision"]) for row in outcome.json["rows"] if not row["passed"]]
    assert failed == [("onnx", "int8")]


def test_a_failure_on_a_processor_without_vnni_names_the_cause(
    cnnexport: Callable[..., Any], copy: Path, repair: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    from converter.core.processor import Processor

    path = copy / "model.int8.onnx"
    model = onnx.load(str(path))
    (scale,) = [each for each in model.graph.initializer if each.name == "grouped/kernel/s"]
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(2), scale.name))
    onnx.save(model, str(path))
    repair(copy, path.name)
    here = "converter.proof.precisions.processor"
    monkeypatch.setattr(here, lambda: Processor("x86_64", ("avx2",), exact=False, known=True))
    outcome = cnnexport("verify", path, "--json", "--quiet")
    assert outcome.code == 1
    assert any("can exceed 16 bits" in each and "(x86_64) has avx2" in each for each in outcome.json["reasons"])
    monkeypatch.setattr(here, lambda: Processor("x86_64", ("avx2", "avx_vnni"), exact=True, known=True))
    assert not any("can exceed 16 bits" in each for each in cnnexport("verify", path, "--json").json["reasons"])


def test_a_wrong_zero_point_in_a_tflite_file_fails(
    cnnexport: Callable[..., Any], copy: Path, repair: Callable[[Path, str], None]
) -> None:
    path = copy / "model.int8.tflite"
    file = TfliteFile(path)
    (quantize,) = [each for each in file.operators if file.kind(each) == "QUANTIZE"]
    file.tensors[quantize.outputs[0]].quantization.zeroPoint = [0]
    file.save(path)
    repair(copy, path.name)
    outcome = cnnexport("verify", copy / path.name, "--json", "--quiet")
    assert outcome.code == 1
    assert not outcome.json["rows"][-1]["passed"]


def test_a_float16_file_with_a_wrong_kernel_fails(
    cnnexport: Callable[..., Any], copy: Path, repair: Callable[[Path, str], None]
) -> None:
    """By three percent, which the tolerance of int8 would let pass."""
    import onnx

    path = copy / "model.fp16.onnx"
    model = onnx.load(str(path))
    (kernel,) = [each for each in model.graph.initializer if each.name == "grouped/kernel"]
    array = onnx.numpy_helper.to_array(kernel)
    array = np.concatenate([array[:16] * np.float16(1.03), array[16:]])
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, kernel.name))
    onnx.save(model, str(path))
    repair(copy, path.name)
    assert cnnexport("verify", copy / path.name, "--quiet").code == 1


def test_controls_that_are_not_detected_leave_a_doubt(
    cnnexport: Callable[..., Any], copy: Path, repair: Callable[[Path, str], None]
) -> None:
    """The doubled scale replaced by the reference with a little noise: what the comparison must not call wrong."""
    name = "golden.int8.npz"
    with np.load(copy / name) as stored:
        arrays = {key: stored[key] for key in stored.files}
    rng = np.random.default_rng(0)
    for key in arrays:
        if "scale-doubled" in key:
            reference = arrays[f"reference/{key.rpartition('/')[2]}"]
            arrays[key] = (reference * (1 + 1e-3 * rng.standard_normal(reference.shape))).astype(np.float32)
            arrays[key] /= arrays[key].sum(axis=-1, keepdims=True)
    np.savez(copy / name, **arrays)
    repair(copy, name)
    outcome = cnnexport("verify", copy / "model.int8.onnx", "--json", "--quiet")
    assert outcome.code == 9
    assert any("int8-scale-doubled" in reason for reason in outcome.json["reasons"])


def test_a_manifest_without_its_quantization_is_refused(cnnexport: Callable[..., Any], copy: Path) -> None:
    content = manifest(copy)
    for each in content["artifacts"]:
        each["options"].pop("quantization", None)
    (copy / "manifest.json").write_text(json.dumps(content))
    outcome = cnnexport("verify", copy / "model.int8.onnx", "--quiet")
    assert outcome.code == 3
    assert "the manifest does not say how its precision was made" in outcome.stderr


def test_noise_never_passes_and_any_is_safe(nets: Path, tmp_path: Path) -> None:
    report = converter.export(
        "tiny_nets:two_heads",
        output=tmp_path / "noise",
        formats="onnx",
        precision="int8",
        calibration="noise",
        int8_target="any",
        calibration_method="percentile",
        keep_float="stem",
    )
    assert report.verdict != "pass"
    assert any("calibrated by noise" in reason for reason in report.reasons)
    (int8,) = [each for each in report.artifacts if each.precision == "int8"]
    facts = int8.options["quantization"]
    assert facts["saturation"]["verdict"] == "safe on any x86"
    assert [each["layer"] for each in facts["saturation"]["layers"]] == ["grouped", "main", "aux"]
    assert any(each.layer == "stem" and "requested" in each.reason for each in facts["kept_float"])


@pytest.mark.slow
def test_int8_dynamic_is_for_dense_layers(nets: Path, tmp_path: Path) -> None:
    """Refused where convolutions dominate, for either format; proven where they do not, a layer called twice too."""
    import keras
    from keras import layers

    report = converter.export("tiny_nets:two_heads", output=tmp_path / "no", formats=FORMATS, precision="int8-dynamic")
    assert report.exit_code == 6
    assert [each.partition(":")[0] for each in report.failures] == ["int8-dynamic"] * 2
    assert all("dense layers hold 14% of the weights" in each for each in report.failures)
    keras.utils.set_random_seed(3)
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Flatten(name="flat")(layers.Conv2D(8, 3, activation="relu", name="conv")(image))
    x = layers.Dense(32, activation="relu", bias_initializer="random_normal", name="first")(x)
    twice = layers.Dense(32, activation="relu", bias_initializer="random_normal", name="twice")
    x = layers.Dense(10, activation="softmax", bias_initializer="random_normal", name="last")(twice(twice(x)))
    model = keras.Model(image, x, name="dense")
    for batch in (None, 2):
        report = converter.export(
            model, output=tmp_path / "yes", formats=FORMATS, precision="int8-dynamic", int8_target="any", batch=batch
        )
        assert report.exit_code == 0, (report.reasons, report.failures)
        rows = {row.subject: row for row in report.rows if row.precision == "int8-dynamic"}
        assert all(1e-4 < (row.outputs[0].relative_l2 or 0) < 0.1 for row in rows.values())
        made = {each.format: each for each in report.artifacts if each.precision == "int8-dynamic"}
        assert made["onnx"].operators["MatMulInteger"] == 4
        full = {each.format: each for each in report.artifacts if each.precision == "float32"}
        assert all(made[form].size < 0.4 * full[form].size for form in FORMATS)


@pytest.mark.slow
def test_auto_measures_every_layer_and_float16_ports(nets: Path, tmp_path: Path, samples: Path) -> None:
    report = converter.export(
        "tiny_nets:two_heads",
        output=tmp_path / "auto",
        formats="onnx",
        precision=("int8", "fp16"),
        calibration=samples,
        keep_float="auto",
        float16_io=True,
    )
    assert report.verdict == "pass", report.reasons
    by_precision = {each.precision: each for each in report.artifacts}
    measured = by_precision["int8"].options["quantization"]["sensitivity"]
    assert sorted(each["layer"] for each in measured) == ["aux", "grouped", "main", "stem"]
    errors = [each["relative_l2"] for each in measured]
    assert errors == sorted(errors, reverse=True)
    assert {each.dtype for each in (*by_precision["float16"].inputs, *by_precision["float16"].outputs)} == {"float16"}
    with pytest.raises(UsageError, match="--keep-float steam: the model has no such layer"):
        converter.export(
            "tiny_nets:two_heads",
            output=tmp_path / "typo",
            formats="onnx",
            precision="int8",
            calibration=samples,
            keep_float="steam",
        )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--precision", "int8"), 2, "--precision int8: needs samples of real inputs"),
        (("--precision", "int4"), 2, "--precision int4: no such precision"),
        (("--precision", "fp16", "--format", "saved-model"), 2, "saved-model holds float32 only"),
        (("--precision", "int8", "--calibration", "missing.npz"), 3, "no such file or folder"),
        (("--precision", "fp16", "--calibration", "noise"), 2, "--calibration: has no effect without --precision int8"),
        (("--keep-float", "conv1"), 2, "--keep-float: has no effect without --precision int8"),
        (("--int8-target", "any"), 2, "--int8-target: has no effect without --precision int8"),
        (("--float16-io",), 2, "--float16-io: has no effect without --precision fp16"),
        (("--precision", "int8", "--calibration", "noise", "--keep-float", "auto,conv1"), 2, "give auto alone"),
        (("--precision", "int8", "--calibration-method", "best"), 2, "--calibration-method best"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], code: int, words: str, cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport("resnet18", *arguments)
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    assert words in outcome.stderr


def test_operators_are_named_after_their_layers(precise: Path) -> None:
    layers = {"stem": "Conv2D", "grouped": "Conv2D", "pool": "GlobalAveragePooling2D", "main": "Dense", "aux": "Dense"}
    for module, name in ((onnx_int8, "model.onnx"), (tflite_int8, "model.tflite")):
        steps = module.described(precise / name, layers)
        assert sorted(step.layer for step in steps if step.kernel) == ["aux", "grouped", "main", "stem"]


@pytest.mark.parametrize("name", ["manifest", "report"])
def test_what_an_export_writes_is_valid(name: str, precise: Path) -> None:
    import jsonschema

    schemas = Path(__file__).resolve().parents[2] / "docs" / "schemas"
    schema = json.loads((schemas / f"{name}.schema.json").read_text(encoding="utf-8"))
    content = json.loads((precise / f"{name}.json").read_text(encoding="utf-8"))
    found = [error.message[:200] for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]
    assert found == []


def test_a_fixed_batch_and_channels_first_lose_no_int8(nets: Path, tmp_path: Path, samples: Path) -> None:
    """tf2onnx then writes Gemm instead of MatMul."""
    report = converter.export(
        "tiny_nets:two_heads",
        output=tmp_path / "fixed",
        formats="onnx",
        precision="int8",
        calibration=samples,
        batch=4,
        layout="nchw",
    )
    assert report.verdict == "pass", report.reasons
    (int8,) = [each for each in report.artifacts if each.precision == "int8"]
    assert {each.reason for each in int8.options["quantization"]["kept_float"]} == {"Softmax has no int8 form"}
    assert int8.operators["Gemm"] == 2
