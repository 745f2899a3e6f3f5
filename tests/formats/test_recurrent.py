"""Recurrent layers, loops and conditions compute in every format what Keras predicts, with the operators promised.

Written and run in this process; the whole proof of such networks is in `tests/pipeline/test_networks.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sequence_models import drawn

from converter.core.data import Array, Artifact, WriteOptions
from converter.core.errors import ConversionError
from converter.core.foreign import KerasModel
from converter.formats import FORMATS

FORMAT_NAMES = ("onnx", "tflite", "saved-model")
STEPS, FEATURES = 7, 5


def network(*stack: Any, shape: tuple[int | None, ...] = (STEPS, FEATURES)) -> KerasModel:
    import keras

    inputs = keras.Input(shape, name="sequence")
    outputs = inputs
    for layer in stack:
        outputs = layer(outputs)
    return drawn(keras.Model(inputs, outputs))


def samples(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)


def written(model: KerasModel, format_name: str, folder: Path) -> Artifact:
    from converter.tracing.signature import describe
    from converter.tracing.trace import trace

    return FORMATS[format_name].write(trace(model, describe(model)), folder, WriteOptions())


def outputs_of(format_name: str, folder: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    if format_name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))
    if format_name == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=str(folder / "model.tflite")).get_signature_runner()
        first = runner(**inputs)
        again = runner(**inputs)  # no state may remain from the inference before
        for name, array in first.items():
            np.testing.assert_array_equal(array, again[name])
        return first
    import tensorflow as tf

    serve = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    given = {name: tf.constant(array) for name, array in inputs.items()}
    return {name: np.asarray(value) for name, value in serve(**given).items()}


def openvino_outputs(path: Path, inputs: Array) -> list[Array]:
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled([inputs]).values())


def check(model: KerasModel, inputs: dict[str, Array], folder: Path) -> dict[str, Artifact]:
    """Write `model` in every format, run each file, compare; the artifacts by format."""
    import keras

    given = list(inputs.values())
    expected = keras.tree.flatten(model.predict(given if len(given) > 1 else given[0], verbose=0))
    artifacts = {}
    for format_name in FORMAT_NAMES:
        target = folder / format_name
        target.mkdir()
        artifacts[format_name] = written(model, format_name, target)
        found = outputs_of(format_name, target, inputs)
        for spec, reference in zip(artifacts[format_name].outputs, expected, strict=True):
            np.testing.assert_allclose(found[spec.name], reference, rtol=0, atol=2e-6, err_msg=format_name)
    assert not [name for name in artifacts["tflite"].operators if name.startswith("FLEX") or name == "CUSTOM"]
    return artifacts


IN_OPENVINO = {"lstm", "gru", "bidirectional", "masked_bidirectional"}
"""It knows three activations, and errs on lengths, final states of them, and the reversed one of two operators."""

LAYERS: dict[str, tuple[Callable[[], list[Any]], dict[str, int]]] = {}
"""Layers by name, and how often ONNX's recurrent operators occur"""


def layers_of(**operators: int) -> Callable[[Callable[[], list[Any]]], Callable[[], list[Any]]]:
    def register(build: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
        LAYERS[build.__name__] = build, operators
        return build

    return register


@layers_of(LSTM=2)
def lstm() -> list[Any]:
    from keras import layers

    return [layers.LSTM(4, return_sequences=True, dropout=0.2, recurrent_dropout=0.1), layers.LSTM(3)]


@layers_of(LSTM=2)
def lstm_activations() -> list[Any]:
    from keras import layers

    return [
        layers.LSTM(4, activation="linear", recurrent_activation="hard_sigmoid", return_sequences=True),
        layers.LSTM(3, activation="softplus", recurrent_activation="softsign", use_bias=False),
    ]


@layers_of(GRU=3)
def gru() -> list[Any]:
    from keras import layers

    return [
        layers.GRU(4, return_sequences=True),
        layers.GRU(5, reset_after=False, return_sequences=True, go_backwards=True),
        layers.GRU(3, use_bias=False, activation="relu"),
    ]


@layers_of(RNN=3)
def simple() -> list[Any]:
    from keras import layers

    return [
        layers.SimpleRNN(4, activation="elu", return_sequences=True),
        layers.SimpleRNN(4, activation="leaky_relu", return_sequences=True),
        layers.RNN(layers.SimpleRNNCell(4, use_bias=False)),
    ]


@layers_of(LSTM=2, GRU=1)
def bidirectional() -> list[Any]:
    from keras import layers

    return [
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="sum"),
        layers.Bidirectional(layers.LSTM(4), merge_mode="mul"),
    ]


@layers_of(LSTM=2, GRU=2)
def mixed_directions() -> list[Any]:
    from keras import layers

    return [
        layers.Bidirectional(
            layers.LSTM(4, return_sequences=True),
            backward_layer=layers.GRU(4, return_sequences=True, go_backwards=True),
        ),
        layers.Bidirectional(layers.LSTM(4), backward_layer=layers.GRU(4, go_backwards=True), merge_mode="ave"),
    ]


@layers_of(LSTM=4)
def masked_bidirectional() -> list[Any]:
    from keras import layers

    return [
        layers.Masking(0.5),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        layers.Bidirectional(layers.LSTM(3), merge_mode="ave"),
    ]


@layers_of()
def other_activation() -> list[Any]:
    from keras import layers

    return [layers.Masking(0.5), layers.LSTM(4, activation="gelu", return_sequences=True), layers.GRU(3, "selu")]


@layers_of()
def stacked_cells() -> list[Any]:
    from keras import layers

    return [layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True, go_backwards=True)]


@layers_of()
def user_cell() -> list[Any]:
    import keras
    from keras import layers

    class Cell(layers.Layer):
        state_size = 4

        def build(self, shape: tuple[int, ...]) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")
            self.recurrent = self.add_weight(shape=(4, 4), name="recurrent")

        def call(self, inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
            found = keras.ops.sin(inputs @ self.kernel + states[0] @ self.recurrent)
            return found, [found]

    return [layers.Masking(0.5), layers.RNN(Cell(), return_sequences=True)]


@pytest.mark.parametrize("length", [STEPS, None], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_in_every_format(name: str, length: int | None, tmp_path: Path) -> None:
    build, operators = LAYERS[name]
    model = network(*build(), shape=(length, FEATURES))
    inputs = samples(STEPS, FEATURES)
    inputs[0, 2:4], inputs[1, 5:], inputs[2] = 0.5, 0.5, 0.5  # a hole, padding, nothing valid at all
    artifacts = check(model, {"sequence": inputs}, tmp_path)
    found = {name: count for name, count in artifacts["onnx"].operators.items() if name in ("LSTM", "GRU", "RNN")}
    assert found == operators
    if name in IN_OPENVINO:
        expected = outputs_of("onnx", tmp_path / "onnx", {"sequence": inputs}).values()
        for one, other in zip(openvino_outputs(tmp_path / "onnx/model.onnx", inputs), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    assert not operators or "Loop" not in artifacts["onnx"].operators


def test_unrolled_layers_are_no_loops(tmp_path: Path) -> None:
    from keras import layers

    model = network(layers.Masking(0.5), layers.GRU(4, unroll=True, return_sequences=True), layers.LSTM(3, unroll=True))
    inputs = samples(STEPS, FEATURES)
    inputs[0, 2:4] = 0.5
    artifacts = check(model, {"sequence": inputs}, tmp_path)
    assert "WHILE" not in artifacts["tflite"].operators


def test_states_go_in_and_out(tmp_path: Path) -> None:
    import keras
    from keras import layers

    sequence = keras.Input((None, FEATURES), name="sequence")
    hidden, carry = keras.Input((4,), name="hidden"), keras.Input((4,), name="carry")
    masked = layers.Masking(0.5)(sequence)
    outputs = layers.LSTM(4, return_sequences=True, return_state=True)(masked, initial_state=[hidden, carry])
    model = drawn(keras.Model([sequence, hidden, carry], outputs))
    inputs = samples(STEPS, FEATURES)
    inputs[0, 4:], inputs[2] = 0.5, 0.5  # the states of the last sample come out as they went in
    states = {"hidden": samples(4, seed=2), "carry": samples(4, seed=3)}
    check(model, {"sequence": inputs, **states}, tmp_path)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutional_lstm(rank: int, tmp_path: Path) -> None:
    from keras import layers

    kind = {1: layers.ConvLSTM1D, 2: layers.ConvLSTM2D, 3: layers.ConvLSTM3D}[rank]
    shape = (4, *(6,) * rank, 2)
    model = network(
        kind(3, 3, padding="same", return_sequences=True), kind(2, 3, strides=2, go_backwards=True), shape=shape
    )
    artifacts = check(model, {"sequence": samples(*shape)}, tmp_path)
    convolutions = artifacts["onnx"].operators["Conv"]
    assert convolutions <= 2 * (1 + shape[0])  # one for the inputs, and one for each step


def test_steps_of_an_unknown_number(tmp_path: Path) -> None:
    """Keras's own loop over a dynamic axis computes as many steps as the batch has samples."""
    from keras import layers

    inner = network(layers.Conv1D(3, 2), layers.GlobalMaxPooling1D(), shape=(6, 2))
    model = network(
        layers.Reshape((-1, 6, 2)),
        layers.TimeDistributed(inner),
        layers.TimeDistributed(layers.Dense(2)),
        shape=(None, 12),
    )
    check(model, {"sequence": samples(STEPS, 12)}, tmp_path)


def test_a_state_that_is_kept_is_refused(tmp_path: Path) -> None:
    import keras
    from keras import layers

    inputs = keras.Input(batch_shape=(2, STEPS, FEATURES))
    model = keras.Model(inputs, layers.LSTM(4, stateful=True, name="memory")(inputs))
    with pytest.raises(ConversionError, match=r"^memory \(LSTM\): with stateful=True .*\n.*return_state=True"):
        written(model, "onnx", tmp_path)


LOOPS: dict[str, Callable[[Any, Any], Any]] = {}


def loop(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    LOOPS[function.__name__] = function
    return function


@loop
def while_counted(x: Any, kernel: Any) -> Any:
    from keras import ops

    return ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, ops.tanh(y @ kernel)), (0, x))[1]


@loop
def while_of_data(x: Any, kernel: Any) -> Any:
    from keras import ops

    return ops.while_loop(lambda y: ops.max(ops.abs(y)) > 0.1, lambda y: y / 2, x @ kernel)


@loop
def fori(x: Any, kernel: Any) -> Any:
    from keras import ops

    return ops.fori_loop(0, 4, lambda i, y: y @ kernel + ops.cast(i, "float32"), x)


@loop
def scan(x: Any, kernel: Any) -> Any:
    from keras import ops

    def step(state: Any, row: Any) -> tuple[Any, Any]:
        state = ops.tanh(state @ kernel + row)
        return state, state * 2

    rows = ops.transpose(x, (1, 0, 2))
    return ops.transpose(ops.scan(step, rows[0] * 0, rows, reverse=True)[1], (1, 0, 2))


@loop
def scan_of_a_batch(x: Any, kernel: Any) -> Any:
    from keras import ops

    return ops.scan(lambda total, row: (total + row, total @ kernel), ops.zeros_like(x[0]), x)[1]


@loop
def map_of_a_batch(x: Any, kernel: Any) -> Any:
    from keras import ops

    return ops.map(lambda row: ops.tanh(row @ kernel), x)


@loop
def condition(x: Any, kernel: Any) -> Any:
    from keras import ops

    return ops.cond(ops.sum(x) > 0, lambda: x @ kernel, lambda: x * 2)


@loop
def switch(x: Any, kernel: Any) -> Any:
    from keras import ops

    chosen = ops.cast(ops.sum(x) > 0, "int32") + 1
    return ops.switch(chosen, [lambda y: y, lambda y: y @ kernel, lambda y: y - 1], x)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_or_condition_in_every_format(name: str, tmp_path: Path) -> None:
    import keras

    class Looping(keras.layers.Layer):
        def build(self, shape: tuple[int, ...]) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

        def call(self, x: Any) -> Any:
            return LOOPS[name](x, self.kernel)

    length = None if name in ("scan", "map_of_a_batch") else STEPS
    model = network(Looping(), keras.layers.Dense(3), shape=(length, FEATURES))
    check(model, {"sequence": samples(STEPS, FEATURES)}, tmp_path)


def test_a_convolutional_lstm_turns_no_state_around(tmp_path: Path) -> None:
    """Channels stay first from step to step: a Transpose passes the Split into gates, and zeros are not convolved."""
    from keras import layers

    model = network(layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True), shape=(STEPS, 6, 5, 2))
    artifact = written(model, "onnx", tmp_path)
    assert artifact.operators["Conv"] == 1 + STEPS - 1
    assert artifact.operators["Transpose"] <= 3  # of the film, twice, and of the whole result
    inputs = {"sequence": samples(STEPS, 6, 5, 2)}
    (found,) = outputs_of("onnx", tmp_path, inputs).values()
    np.testing.assert_allclose(found, model(inputs["sequence"], training=False), rtol=1e-4, atol=1e-6)


def test_an_initial_state_that_is_given_is_convolved(tmp_path: Path) -> None:
    import keras
    from keras import layers

    film, state = keras.Input((3, 6, 5, 2), name="film"), keras.Input((6, 5, 4), name="state")
    outputs = layers.ConvLSTM2D(4, 3, padding="same")(film, initial_state=[state, state])
    model = drawn(keras.Model([film, state], outputs))
    assert written(model, "onnx", tmp_path).operators["Conv"] == 1 + 3
    inputs = {"film": samples(3, 6, 5, 2), "state": samples(6, 5, 4)}
    (found,) = outputs_of("onnx", tmp_path, inputs).values()
    np.testing.assert_allclose(found, model(list(inputs.values()), training=False), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pieces", [2, [1, 5, 2]])
def test_pieces_of_channels(pieces: Any, tmp_path: Path) -> None:
    """As in Res2Net and ShuffleNet: a Split between convolutions costs no Transpose."""
    import keras
    from keras import layers, ops

    image = keras.Input((6, 5, 8), name="image")
    x = layers.Conv2D(8, 3, padding="same")(image)
    points = pieces if isinstance(pieces, int) else list(np.cumsum(pieces)[:-1])
    parts = ops.split(x, points, axis=-1)
    outputs = layers.Concatenate()([layers.Conv2D(3, 3)(layers.ReLU()(each)) for each in parts])
    model = drawn(keras.Model(image, outputs))
    assert written(model, "onnx", tmp_path).operators["Transpose"] <= 2
    inputs = {"image": samples(6, 5, 8)}
    (found,) = outputs_of("onnx", tmp_path, inputs).values()
    np.testing.assert_allclose(found, model(inputs["image"], training=False), rtol=1e-4, atol=1e-6)
