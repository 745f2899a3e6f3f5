"""What an artifact is made of, against numbers that are known; the difference of two; damaged files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter.core.errors import InputError
from converter.inspection.describe import describe, difference
from converter.inspection.graph import FileGraph, Operation, Value
from converter.pipeline.inspect import inspect


def small(path: Path, *, groups: int = 1, dtype: type = np.float32) -> Path:
    """8 inputs of 10 x 6 pixels, a 3 x 3 convolution to 16, and a product to 5."""
    kernel = np.ones((16, 8 // groups, 3, 3), dtype)
    dense = np.ones((16, 5), dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], "conv", group=groups, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "dense"], ["y"], "dense_product"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["batch", 8, 10, 6])],
        [helper.make_tensor_value_info("y", kind, ["batch", 5])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(dense, "dense")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("groups", [1, 4])
def test_the_numbers_of_an_onnx_file(groups: int, tmp_path: Path) -> None:
    found = describe(small(tmp_path / "a.onnx", groups=groups))
    kernel = 16 * 8 * 9 // groups
    assert found.format == "onnx"
    assert found.parameters == kernel + 80
    assert found.multiply_adds == 60 * kernel + 80
    assert found.activation_bytes == 4 * 60 * (8 + 16)
    assert found.inputs == (("x", (1, 8, 10, 6), "float32"),)
    assert found.outputs == (("y", (1, 5), "float32"),)
    assert found.operators == {"Conv": 1, "Flatten": 1, "GlobalAveragePool": 1, "MatMul": 1}
    assert [each.name for each in found.largest] == ["kernel", "dense"]
    assert found.costly[0] == ("conv", "Conv", 60 * kernel)
    assert found.precision == "float32"


def test_the_difference_of_two(tmp_path: Path) -> None:
    one = describe(small(tmp_path / "a.onnx"))
    other = describe(small(tmp_path / "b.onnx", dtype=np.float16))
    assert difference(one, one) == {}
    found = difference(one, other)
    assert found["precision"] == ("float32", "float16")
    assert found["weight_bytes: float16"] == (None, one.weight_bytes["float32"] // 2)
    assert "parameters" not in found
    assert "operators: Conv" not in found


def test_memory_counts_what_is_alive() -> None:
    """A tensor that is read again at the end stays; others are freed after their last use."""
    values = {name: Value(name, (100,), "float32") for name in "abcd"}
    steps = (
        Operation("1", "f", ("a",), ("b",)),
        Operation("2", "f", ("b",), ("c",)),
        Operation("3", "f", ("c", "a"), ("d",)),
    )
    graph = FileGraph(steps, values, (values["a"],), (values["d"],))
    assert graph.activation_bytes == 3 * 400
    unknown = FileGraph(steps, {**values, "b": Value("b", (None,), "float32")}, (values["a"],), (values["d"],))
    assert unknown.activation_bytes is None


def test_every_format_has_the_same_cost(exported: Any) -> None:
    found = {each.format: each for each in inspect(exported.directory).files}
    assert set(found) == {"onnx", "tflite", "saved-model"}
    assert {each.multiply_adds for each in found.values()} == {
        32 * 32 * 27 * 16 + 16 * 16 * 9 * 4 * 32 + 32 * 5 + 32 * 3
    }
    assert {each.parameters for each in found.values()} == {27 * 16 + 16 + 9 * 4 * 32 + 32 + 32 * 5 + 5 + 32 * 3 + 3}
    for each in found.values():
        assert each.precision == "float32"
        assert {name: shape for name, shape, _ in each.outputs} == {"main": (1, 5), "aux": (1, 3)}
        assert each.inputs == (("image", (1, 32, 32, 3), "float32"),)


def test_the_command(exported: Any, cnnexport: Callable[..., Any]) -> None:
    first, second = exported.directory / "model.onnx", exported.directory / "model.tflite"
    outcome = cnnexport("inspect", first)
    assert outcome.code == 0
    for words in ("model.onnx: onnx, float32", "multiply-adds", "activations", "largest weights", "operators"):
        assert words in outcome.stdout
    both = cnnexport("inspect", first, second, "--json").json
    assert both["difference"]["format"] == ["onnx", "tflite"]
    assert len(cnnexport("inspect", exported.directory, "--json").json["files"]) == 3
    assert "no difference" in cnnexport("inspect", first, first).stdout


def wrong(path: Path) -> Path:
    path.write_bytes(b"\x00" * 100)
    return path


def halved(path: Path) -> Path:
    small(path)
    path.write_bytes(path.read_bytes()[:300])
    return path


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.onnx", wrong, "not an ONNX file"),
        ("a.onnx", halved, "not an ONNX file"),
        ("a.tflite", wrong, "not a TFLite file"),
        ("a.txt", wrong, "not an artifact"),
        ("a.onnx", lambda path: path, "no such file"),
    ],
)
def test_what_is_no_artifact(name: str, make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        describe(make(tmp_path / name))


def test_a_damaged_tflite_file(exported: Any, tmp_path: Path) -> None:
    """Every truncation is an InputError or still a file, never another error."""
    content = (exported.directory / "model.tflite").read_bytes()
    path = tmp_path / "a.tflite"
    for size in (8, 20, 60, 200, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(InputError):
            describe(path)


def test_changed_bytes_never_hang_or_crash(exported: Any, tmp_path: Path) -> None:
    """A TFLite file with four changed bytes is described, or refused in words."""
    content = (exported.directory / "model.tflite").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tflite"
    refused = 0
    for _ in range(200):
        changed = bytearray(content)
        start = int(rng.integers(8, len(content) - 4))
        changed[start : start + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        path.write_bytes(bytes(changed))
        try:
            describe(path)
        except InputError:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere",), 3, "no such file"),
        (("{export}", "{export}/model.onnx"), 2, "has 3 artifacts"),
        ((), 2, "Missing argument"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], code: int, words: str, exported: Any, cnnexport: Callable[..., Any]
) -> None:
    outcome = cnnexport("inspect", *(each.format(export=exported.directory) for each in arguments))
    assert (outcome.code, outcome.stdout) == (code, "")
    assert words in outcome.stderr


def test_a_plain_directory_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither an export nor a SavedModel"):
        describe(tmp_path)
