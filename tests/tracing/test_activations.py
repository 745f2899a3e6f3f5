"""Activations that frameworks write differently: the ONNX file computes what Keras computes, also far from 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from converter.core.data import Array, WriteOptions
from converter.core.foreign import Tensor
from converter.formats import FORMATS
from converter.tracing.signature import describe
from converter.tracing.trace import trace

NAMES = ("gelu", "silu", "mish", "softplus", "softsign", "hard_silu", "hard_sigmoid", "elu", "selu", "relu6")


def in_onnx(
    call: Callable[[Tensor], Tensor], directory: Path, values: Array, opset: int = 17
) -> tuple[Array, Array, set[str]]:
    """Keras's outputs for `values`, the ONNX file's outputs, and the operators in that file."""
    import keras

    given = keras.Input(values.shape[1:], name="given")
    model = keras.Model(given, call(given), name="net")
    artifact = FORMATS["onnx"].write(trace(model, describe(model)), directory, WriteOptions(opset=opset))
    session = onnxruntime.InferenceSession(directory / artifact.path, providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in onnx.load(directory / artifact.path).graph.node}
    return model.predict(values, verbose=0), session.run(None, {"given": values})[0], operators


@pytest.mark.parametrize("name", NAMES)
def test_activation(name: str, tmp_path: Path) -> None:
    import keras

    values = np.linspace(-12, 12, 4001, dtype=np.float32)[None]
    expected, answer, _ = in_onnx(keras.layers.Activation(name), tmp_path, values)
    assert np.abs(answer - expected).max() < 4e-6


@pytest.mark.parametrize("opset", [13, 18])
def test_exact_gelu_is_written_with_erf(opset: int, tmp_path: Path) -> None:
    """TensorFlow computes it with Erfc, which ONNX lacks."""
    from keras import ops

    values = np.linspace(-6, 6, 600, dtype=np.float32).reshape(2, 300)
    expected, answer, operators = in_onnx(lambda x: ops.gelu(x, approximate=False), tmp_path, values, opset)
    assert "Erf" in operators
    assert np.abs(answer - expected).max() < 2e-6
    exact = values * (0.5 + 0.5 * np.vectorize(math.erf)(values / np.sqrt(2)))
    assert np.abs(answer - exact).max() < 2e-6
