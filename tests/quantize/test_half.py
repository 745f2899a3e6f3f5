"""float16 ONNX graphs: what stays in float32, what overflows, and what must not become zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.core.errors import ConversionError
from converter.quantize import onnx_half

F = TensorProto.FLOAT


def saved(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], shape: list[Any], result: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, shape)],
        [helper.make_tensor_value_info("y", F, result)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0])


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    return saved(tmp_path / "m.onnx", nodes, {"w": weight}, ["n", 4], ["n", 3])


@pytest.mark.parametrize("ports", [False, True])
def test_inputs_and_outputs_have_the_type_that_was_asked_for(dense: Path, tmp_path: Path, ports: bool) -> None:
    onnx_half.write(dense, tmp_path / "h.onnx", ports)
    model = onnx.load(str(tmp_path / "h.onnx"))
    wanted = TensorProto.FLOAT16 if ports else F
    assert [each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)] == [wanted] * 2
    assert [each.data_type for each in model.graph.initializer] == [TensorProto.FLOAT16]
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float16 if ports else np.float32)
    found = run(tmp_path / "h.onnx", x)
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found, run(dense, x.astype(np.float32)), atol=2e-3)


def test_the_softmax_at_the_end_computes_in_float32(dense: Path, tmp_path: Path) -> None:
    """A probability of 1e-9 is zero in float16."""
    onnx_half.write(dense, tmp_path / "h.onnx")
    found = run(tmp_path / "h.onnx", np.full((1, 4), 30.0, np.float32))
    assert found.min() > 0
    assert found.min() < 6e-8


def test_a_weight_beyond_float16_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "big"], ["y"])]
    path = saved(tmp_path / "m.onnx", nodes, {"big": np.full(4, 1e6, np.float32)}, ["n", 4], ["n", 4])
    with pytest.raises(ConversionError, match=r"big: the value 1e\+06 is beyond float16"):
        onnx_half.write(path, tmp_path / "h.onnx")


def test_what_may_only_be_float32_stays_float32(tmp_path: Path) -> None:
    """The scales of Resize."""
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    path = saved(
        tmp_path / "m.onnx", nodes, {"scales": np.array([1, 1, 2, 2], np.float32)}, ["n", 1, 2, 2], ["n", 1, 4, 4]
    )
    onnx_half.write(path, tmp_path / "h.onnx")
    x = np.random.default_rng(1).random((2, 1, 2, 2), np.float32)
    np.testing.assert_allclose(run(tmp_path / "h.onnx", x), run(path, x), atol=1e-3)


def test_a_padding_of_almost_zero_is_not_merged_into_the_pooling(tmp_path: Path) -> None:
    """With the value 0, onnxruntime merges the Pad into a MaxPool, whose own padding is minus infinity."""
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    weights = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.array(np.finfo(np.float32).tiny)}
    path = saved(tmp_path / "m.onnx", nodes, weights, ["n", 1, 5, 5], ["n", 1, 3, 3])
    onnx_half.write(path, tmp_path / "h.onnx")
    assert run(tmp_path / "h.onnx", np.full((1, 1, 5, 5), -1.0, np.float32)).max() == pytest.approx(0.0, abs=1e-6)


def test_a_graph_with_a_graph_inside_is_refused(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", F, None)]
    )
    nodes = [helper.make_node("If", ["c"], ["y"], name="loop", then_branch=inner, else_branch=inner)]
    path = saved(tmp_path / "m.onnx", nodes, {"c": np.array(True)}, ["n", 4], ["n", 4])
    with pytest.raises(ConversionError, match="loop: If holds a graph of its own"):
        onnx_half.write(path, tmp_path / "h.onnx")
