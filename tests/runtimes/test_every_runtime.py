"""Each runtime on a tiny export: correct outputs pass, wrong ones fail, damaged files and wrong names are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.core.data import Artifact
from converter.core.errors import ChildError, ConversionError, InputError
from converter.core.foreign import Facts
from converter.core.results import OutputResult
from converter.runtimes import RUNTIMES

if TYPE_CHECKING:
    from conftest import Exported, Outcome

RunIn = Callable[..., tuple[list[OutputResult], Facts]]

FILES = {"onnx": "model.onnx", "tflite": "model.tflite"}
SLOW = {"ncnn"}  # not in the extra "dev": its converter, pnnx, requires torch, although it does not use it
PAIRS = [
    pytest.param(name, form, id=f"{form}-{name}", marks=[pytest.mark.slow] if name in SLOW else [])
    for name, runtime in RUNTIMES.items()
    for form in runtime.reads
    if form in FILES
]
ON_ONNX = [each for each in PAIRS if each.values[1] == "onnx"]


def _scale_a_kernel(directory: Path, form: str) -> None:
    """Scale one kernel by 1.01 in the bytes of the file: only a comparison of numbers can detect it."""
    path = directory / FILES[form]
    if form == "onnx":
        import onnx

        tensors = [onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer]
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))
        constants = [
            each for each in interpreter.get_tensor_details() if len(each["shape"]) == 4 and min(each["shape"])
        ]
        content = path.read_bytes()
        tensors = []
        for detail in constants:
            try:
                tensors.append(np.array(interpreter.get_tensor(detail["index"])))
            except ValueError:  # not a constant: it has no value yet
                continue
        tensors = [each for each in tensors if content.count(each.tobytes()) == 1]
        del interpreter
    kernel = max((each for each in tensors if each.ndim == 4 and each.dtype == np.float32), key=lambda each: each.size)
    content = path.read_bytes()
    assert content.count(kernel.tobytes()) == 1
    path.write_bytes(content.replace(kernel.tobytes(), (kernel * np.float32(1.01)).tobytes()))


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_the_artifact_passes(exported: Exported, run_in: RunIn, name: str, form: str) -> None:
    results, answer = run_in(exported.directory, name, form)
    assert answer["batches"] == [1, 3, 8]
    assert sorted(each.output for each in results) == [*["aux"] * 3, *["main"] * 3]
    for result in results:
        assert result.passed, result
    assert answer["facts"]["device_name" if name != "litert" else "delegate"]
    assert answer["latency_seconds"] > 0


@pytest.mark.parametrize(("name", "form"), ON_ONNX)
def test_a_fixed_batch_with_channels_first(exported_nchw: Path, run_in: RunIn, name: str, form: str) -> None:
    if name == "ncnn":
        with pytest.raises(ConversionError, match="no batch axis"):
            run_in(exported_nchw, name)
        return
    results, answer = run_in(exported_nchw, name)
    assert answer["batches"] == [3]
    assert len(results) == 2
    assert all(each.passed for each in results), results


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_outputs_are_paired_by_name(exported: Exported, run_in: RunIn, name: str, form: str) -> None:
    def reverse(artifact: Artifact) -> Artifact:
        return replace(artifact, outputs=artifact.outputs[::-1])

    results, _ = run_in(exported.directory, name, form, reverse)
    assert all(each.passed for each in results), results


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_a_wrong_output_name_is_refused(exported: Exported, run_in: RunIn, name: str, form: str) -> None:
    def rename(artifact: Artifact) -> Artifact:
        return replace(artifact, outputs=(*artifact.outputs[:-1], replace(artifact.outputs[-1], name="other")))

    with pytest.raises(InputError, match=r"the manifest declares|has no tensor called other"):
        run_in(exported.directory, name, form, rename)


@pytest.mark.parametrize(("name", "form"), [each for each in PAIRS if each.values[0] != "litert"])
def test_a_name_declared_twice_is_refused(exported: Exported, run_in: RunIn, name: str, form: str) -> None:
    """Not LiteRT: there each name is looked up separately, and a name given twice is the same tensor."""

    def double(artifact: Artifact) -> Artifact:
        return replace(artifact, inputs=(*artifact.inputs, artifact.inputs[0]))

    with pytest.raises(InputError, match="the manifest declares"):
        run_in(exported.directory, name, form, double)


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_a_tampered_artifact_fails(
    copied: Path, repair: Callable[[Path, str], None], cnnexport: Callable[..., Outcome], name: str, form: str
) -> None:
    _scale_a_kernel(copied, form)
    repair(copied, FILES[form])
    outcome = cnnexport("verify", copied, "--runtime", name, "--json", "--quiet")
    assert outcome.code == 1, outcome.stderr
    rows = [row for row in outcome.json["rows"] if row["subject"] == form]
    assert [row["runtime"] for row in rows] == [name]
    assert not rows[0]["passed"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_a_truncated_file_is_refused_or_kills_only_its_child(
    copied: Path, run_in: RunIn, name: str, form: str, share: float
) -> None:
    path = copied / FILES[form]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises((InputError, ChildError)) as caught:
        run_in(copied, name, form)
    assert len(str(caught.value).splitlines()) <= 3
    assert caught.value.exit_code in (3, 8)
