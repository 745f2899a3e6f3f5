"""What onnxruntime needs on a GPU, as far as a machine without one shows: placement, reasons, and TF32 on the CPU."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.bundle.golden import read_golden
from converter.bundle.manifest import GOLDEN, read_manifest
from converter.core.data import Artifact, TensorSpec
from converter.core.errors import UnavailableError
from converter.core.foreign import OnnxModel
from converter.proof.protocol import Subject
from converter.proof.tf32 import with_tf32_noise
from converter.proof.tolerance import GATES, tolerances
from converter.runtimes import run_ort
from converter.runtimes.shared import onnxruntime_gpu
from converter.runtimes.shared.onnx_rounded import PRODUCTS, rounded_copy

if TYPE_CHECKING:
    from conftest import Exported

Single = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def test_only_light_operators_may_run_beside_the_gpu() -> None:
    """onnxruntime computes shapes on the CPU, also in a session for CUDA; a convolution there is no run on the GPU."""
    gpu = {"CUDAExecutionProvider": {"Conv": 3}}
    run_ort._require_device({**gpu, "CPUExecutionProvider": {"Gather": 2, "Shape": 1}}, "cuda")
    run_ort._require_device({"CPUExecutionProvider": {"Conv": 3}}, "cpu")
    for stray in ("Conv", "LSTM", "Gemm"):
        with pytest.raises(UnavailableError, match=f"did not run on cuda only: {stray} on CPUExecutionProvider"):
            run_ort._require_device({**gpu, "CPUExecutionProvider": {stray: 1}}, "cuda")
    with pytest.raises(UnavailableError, match="nothing ran there"):
        run_ort._require_device({"CPUExecutionProvider": {"Shape": 1}}, "cuda-tf32")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot "
            "open shared object file: No such file or directory",
            "no usable CUDA device: libcublasLt.so.13 is missing; pip install 'cnnexport[cuda]'",
        ),
        (
            "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=x",
            "no usable CUDA device: no CUDA-capable device is detected",
        ),
        ("nothing of use", "no usable CUDA device: onnxruntime could not start CUDAExecutionProvider"),
    ],
)
def test_the_cause_is_taken_from_what_onnxruntime_logs(
    said: str, reason: str, monkeypatch: pytest.MonkeyPatch, gpu_reasons: Callable[[], None]
) -> None:
    answer = b'{"cuda": "no usable CUDA device: onnxruntime could not start CUDAExecutionProvider", "tensorrt": ""}'
    done = subprocess.CompletedProcess[bytes]([], 0, answer, said.encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert onnxruntime_gpu.unavailable("cuda") == reason
    assert onnxruntime_gpu.unavailable("cuda-tf32") == reason
    assert onnxruntime_gpu.unavailable("tensorrt") is None
    assert onnxruntime_gpu.unavailable("cpu") is None


def test_a_child_that_dies_looking_for_a_gpu(monkeypatch: pytest.MonkeyPatch, gpu_reasons: Callable[[], None]) -> None:
    monkeypatch.setattr(onnxruntime_gpu, "_QUESTION", "import sys; sys.exit('out of luck')")
    reason = onnxruntime_gpu.unavailable("cuda")
    assert reason == "onnxruntime ended the process that asked for a GPU: out of luck"


@pytest.fixture
def gpu_reasons() -> object:
    """Forgets before and after a test what was found out about GPUs."""
    onnxruntime_gpu._gpu_reasons.cache_clear()
    yield None
    onnxruntime_gpu._gpu_reasons.cache_clear()


def test_products_get_ten_bits_of_mantissa(tmp_path: Path) -> None:
    """Against numpy, whose inputs are rounded by their bits; a convolution that is 1 x 1, a Gemm and a MatMul."""
    model = _products()
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    rounded_copy(path, tmp_path / "copy.onnx")
    spec = TensorSpec("x", (None, 8))
    artifact = Artifact("onnx", path.name, "float32", (spec,), (TensorSpec("y", (None, 8)),), {}, 0, 0.0)
    given = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    x = given
    for name in ("a", "b"):
        weight = np.frombuffer(_weights()[name].tobytes(), np.float32).reshape(8, 8)
        x = (_ten_bits(x).astype(np.float64) @ _ten_bits(weight)).astype(np.float32)
    exact = run_ort.prepare(path, artifact, "cpu").run({"x": given})["y"]
    found = run_ort.prepare_tf32(path, artifact, "cpu").run({"x": given})["y"]
    error = np.abs(found - x).max() / np.abs(x).max()
    assert error < 1e-6
    assert 1e-4 < np.abs(exact - x).max() / np.abs(x).max() < 1e-2


def test_weights_in_a_file_of_their_own_are_found(tmp_path: Path) -> None:
    """A model of more than 1.8 GB has them; onnxruntime refuses a link out of the directory of the copy."""
    import onnx

    path = tmp_path / "model.onnx"
    onnx.save_model(
        _products(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )  # fmt: skip
    spec = TensorSpec("x", (None, 8))
    artifact = Artifact("onnx", path.name, "float32", (spec,), (TensorSpec("y", (None, 8)),), {}, 0, 0.0)
    given = {"x": np.ones((2, 8), np.float32)}
    exact = run_ort.prepare(path, artifact, "cpu").run(given)["y"]
    found = run_ort.prepare_tf32(path, artifact, "cpu").run(given)["y"]
    assert 0 < np.abs(found - exact).max() / np.abs(exact).max() < 1e-2


def test_the_tolerance_of_tf32_is_what_tf32_does_to_the_file(exported: Exported) -> None:
    (artifact,) = [each for each in exported.report.artifacts if each.format == "onnx"]
    interface = read_manifest(exported.directory).interface
    golden = read_golden(exported.directory / GOLDEN, interface)
    subject = Subject(exported.directory, artifact, interface, "onnxruntime", "cuda-tf32")
    specs = interface.by_output
    found = with_tf32_noise(golden, subject)
    single, rounded = tolerances(golden, specs), tolerances(found, specs, tf32=True)
    for name, bound in rounded.items():
        assert bound.noise is not None
        assert 20 * (single[name].noise or 0.0) < bound.noise < 5e-2
        assert bound.value == pytest.approx(GATES["tf32"].factor * bound.noise)
    assert found.references is golden.references
    assert (found.resized is None) == (golden.resized is None)
    scaled = replace(golden, references={name: 2 * array for name, array in golden.references.items()})
    again = tolerances(with_tf32_noise(scaled, subject), specs, tf32=True)
    assert {name: bound.value for name, bound in again.items()} == {name: each.value for name, each in rounded.items()}


def test_every_product_is_one_that_must_run_on_the_gpu() -> None:
    assert set(PRODUCTS) <= run_ort._HEAVY


def _weights() -> dict[str, Single]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal((8, 8)).astype(np.float32) for name in ("a", "b")}


def _products() -> OnnxModel:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["first"]),
        helper.make_node("Gemm", ["first", "b"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 8]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(array, name) for name, array in _weights().items()]
    graph = helper.make_graph(nodes, "products", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _ten_bits(array: Single) -> Single:
    """The nearest values with ten bits after the leading one, ties to even."""
    bits = array.view(np.uint32).astype(np.uint64)
    bits += 0xFFF + ((bits >> 13) & 1)
    return (bits & ~np.uint64(0x1FFF)).astype(np.uint32).view(np.float32)
