"""The faults of `benchmarks/faults.py`: each changes only a graph's numbers, or reports that it does not apply."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

faults = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "faults.py")))

FITTING = [
    faults.scaled("one/kernel"),
    faults.filter_zeroed("one/kernel", 3),
    faults.inputs_reversed("one/kernel"),
    faults.transposed("one/kernel"),
    faults.groups_exchanged("two/kernel", 4),
    faults.in_float16("two/kernel"),
    faults.in_int8("two/kernel"),
    faults.biases_exchanged("one/Conv", "two/Conv"),
    faults.bias_dropped("two/Conv"),
    faults.padding_shifted("one/Conv"),
    faults.stride_phase("two/Conv"),
    faults.padding_counted("blur/AvgPool"),
    faults.averaged("shrink/MaxPool"),
    faults.activation_left_out("one/Relu"),
    faults.unbounded(),
    faults.corners_aligned(),
    faults.outputs_exchanged("left", "right"),
]
NOT_FITTING = [
    (faults.scaled("three/kernel"), "0 initializers"),
    (faults.scaled("one/kernel", 1.0), "not changed"),
    (faults.bias_dropped("one/Relu"), "instead of one Conv"),
    (faults.stride_phase("one/Conv"), "stay as they are"),
    (faults.padding_shifted("two/Conv"), "no padding at the top"),
    (faults.outputs_exchanged("left", "image"), "not both outputs"),
]


def model() -> Any:
    """Two convolutions, the second one grouped, with every operator that a fault is about, and two outputs."""
    rng = np.random.default_rng(0)
    arrays = {
        "one/kernel": rng.standard_normal((8, 3, 3, 3)),
        "one/bias": rng.standard_normal(8),
        "two/kernel": rng.standard_normal((8, 2, 3, 3)) * 2,
        "two/bias": rng.standard_normal(8),
        "low": np.array(0.0),
        "high": np.array(6.0),
        "scales": np.array([1.0, 1.0, 2.0, 2.0]),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "one/kernel", "one/bias"], ["a"], "one/Conv", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"], "one/Relu"),
        node("MaxPool", ["b"], ["c"], "shrink/MaxPool", kernel_shape=[2, 2], strides=[2, 2], dilations=[1, 1]),
        node("Conv", ["c", "two/kernel", "two/bias"], ["d"], "two/Conv", pads=[0, 0, 1, 1], strides=[2, 2], group=4),
        node("Clip", ["d", "low", "high"], ["e"], "two/Relu6"),
        node("Resize", ["e", "", "scales"], ["left"], "up/Resize", mode="linear"),
        node("AveragePool", ["left"], ["right"], "blur/AvgPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, 8, 8]) for name in ("left", "right")]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "small", [image], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs_of(made: Any) -> dict[str, Any]:
    import onnxruntime

    onnx.checker.check_model(made)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


@pytest.mark.parametrize("fault", FITTING)
def test_fault_changes_numbers_only(fault: Callable[[Any], None]) -> None:
    made = model()
    before = outputs_of(made)
    fault(made.graph)
    after = outputs_of(made)
    assert {name: array.shape for name, array in after.items()} == {name: array.shape for name, array in before.items()}
    assert max(np.abs(after[name] - before[name]).max() for name in before) > 1e-5


@pytest.mark.parametrize(("fault", "says"), NOT_FITTING)
def test_fault_that_does_not_fit_is_an_error(fault: Callable[[Any], None], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fault(model().graph)
