"""Keras's own outputs: of the model's call, whatever its predict does, and without compiling it with XLA."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import converter
from converter.core.errors import InputError
from converter.tracing.context import inlined_functions
from converter.tracing.prediction import Prediction
from converter.tracing.signature import describe


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def prediction(model: Any) -> Prediction:
    return Prediction(model, describe(model))


def predicted(model: Any, *arrays: np.ndarray) -> list[np.ndarray]:
    made = prediction(model)
    return list(made({spec.name: each for spec, each in zip(made.signature.inputs, arrays, strict=True)}).values())


class Detector(keras.Model):
    """A functional model whose `predict` decodes boxes."""

    def predict_step(self, data: Any) -> Any:
        given, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return {"boxes": self(given, training=False) * 640}

    def predict(self, *given: Any, **keywords: Any) -> Any:
        return super().predict(*given, **keywords)["boxes"]


def test_a_model_that_overrides_predict_is_compared_on_its_call(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    model = Detector(image, layers.Dense(4, name="boxes")(layers.GlobalAveragePooling2D(name="pool")(x)))
    given = values(3, 12, 12, 3)
    assert np.array_equal(predicted(model, given)[0] * 640, model.predict(given, verbose=0))
    report = converter.export(model, output=tmp_path / "out", formats="onnx")
    assert report.verdict == "pass", report.reasons


@pytest.mark.parametrize("bias", [False, True])
def test_grouped_convolutions_run_without_xla(bias: bool) -> None:
    image = keras.Input((8, 8, 8))
    model = keras.Model(image, layers.Conv2D(16, 3, groups=4, activation="relu", use_bias=bias)(image))
    model.layers[-1].set_weights([values(*weight.shape) for weight in model.layers[-1].weights])
    given = values(3, 8, 8, 8)
    made = prediction(model)
    result = made({made.signature.inputs[0].name: given})
    (function,) = made._compiled.values()
    assert not list(function.graph.as_graph_def().library.function)
    assert np.allclose(next(iter(result.values())), model.predict(given, verbose=0), rtol=1e-5, atol=1e-5)
    assert not tf.config.functions_run_eagerly()
    assert tf.config.optimizer.get_experimental_options().get("remapping", True)


def test_a_function_of_the_user_keeps_its_wrapper() -> None:
    """Without it, AutoGraph would not convert the condition."""

    class Conditional(keras.Model):
        @tf.function
        def doubled(self, x: Any) -> Any:
            if tf.reduce_sum(x) > 0:  # noqa: SIM108
                y = x * 2
            else:
                y = x
            return y

        def call(self, x: Any) -> Any:
            return self.doubled(x)

    model, given = Conditional(), np.ones((3, 4), np.float32)
    model(given)
    (result,) = predicted(model, given)
    assert np.array_equal(result, given * 2)


def test_nested_inputs_and_outputs_in_a_fixed_batch() -> None:
    left, right = keras.Input((4,), 2, name="left"), keras.Input((4,), 2, name="right")
    outputs = {"sum": layers.Add(name="add")([left, right]), "both": [left, layers.Flatten(name="flat")(right)]}
    model = keras.Model({"left": left, "right": right}, outputs)
    one, other = values(5, 4), values(5, 4) + 1
    expected = model.predict({"left": one[:4], "right": other[:4]}, batch_size=2, verbose=0)
    results = predicted(model, one, other)
    assert [len(each) for each in results] == [5, 5, 5]
    for result, wanted in zip(results, keras.tree.flatten(expected), strict=True):
        assert np.array_equal(result[:4], wanted)


def test_half_precision_is_returned_in_float32() -> None:
    given = keras.Input((4,))
    (result,) = predicted(keras.Model(given, layers.Dense(3, dtype="bfloat16")(given)), values(2, 4))
    assert result.dtype == np.float32


def test_weights_are_those_of_the_call_and_sizes_are_compiled_apart() -> None:
    given = keras.Input((None, 4), name="given")
    model = keras.Model(given, layers.Dense(3, use_bias=False, name="dense")(given))
    made, some = prediction(model), values(2, 5, 4)
    assert np.any(made({"given": some})["dense"])
    model.layers[-1].set_weights([np.zeros((4, 3), np.float32)])
    assert not np.any(made({"given": some})["dense"])
    assert made({"given": values(3, 6, 4)})["dense"].shape == (3, 6, 3)
    assert made({"given": values(7, 6, 4)})["dense"].shape == (7, 6, 3)
    assert list(made._compiled) == [((None, 5, 4),), ((None, 6, 4),)]


def test_a_model_whose_code_needs_the_batch_is_compiled_for_each() -> None:
    class Batch(layers.Layer):
        def call(self, x: Any) -> Any:
            return x * float(x.shape[0])

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape, x.dtype)

    given = keras.Input((4,), name="given")
    made = prediction(keras.Model(given, Batch(name="batch")(given)))
    for count in (2, 3, 2):
        (result,) = made({"given": np.ones((count, 4), np.float32)}).values()
        assert np.array_equal(result, np.full((count, 4), count))
    assert list(made._compiled) == [((2, 4),), ((3, 4),)]


def test_what_is_called_once_runs_layer_by_layer_without_xla() -> None:
    seen: list[tuple[bool, bool]] = []

    class Witness(layers.Layer):
        def call(self, x: Any) -> Any:
            seen.append((tf.executing_eagerly(), tf.config.functions_run_eagerly()))
            return x

    image = keras.Input((8, 8, 8), name="image")
    x = layers.Conv2D(16, 3, groups=4, activation="relu", name="grouped")(Witness(name="witness")(image))
    model = keras.Model(image, layers.BatchNormalization(name="norm")(x))
    model.set_weights([abs(values(*weight.shape)) + 0.1 for weight in model.weights])
    given = {"image": values(3, 8, 8, 8)}
    compiled = prediction(model)(given)["norm"]
    once = Prediction(model, describe(model), once=True)
    seen.clear()
    assert np.allclose(once(given)["norm"], compiled, rtol=1e-5, atol=1e-5)
    assert seen == [(True, True)]
    assert not once._compiled


def test_a_loop_is_compiled_even_if_it_is_called_once() -> None:
    given = keras.Input((9, 4), name="given")
    model = keras.Model(given, layers.Bidirectional(layers.GRU(3), name="both")(given))
    once = Prediction(model, describe(model), once=True)
    assert np.allclose(once({"given": values(2, 9, 4)})["both"], model.predict(values(2, 9, 4), verbose=0), atol=1e-6)
    assert once._compiled


def test_a_function_that_needs_xla_keeps_it_where_layers_run_one_by_one() -> None:
    """TensorFlow has no kernel of its own for a grouped convolution over three axes."""
    volume = keras.Input((6, 6, 6, 4), name="volume")
    model = keras.Model(volume, layers.Conv3D(8, 3, groups=2, name="conv")(volume))
    given = values(2, 6, 6, 6, 4)
    once = Prediction(model, describe(model), once=True)
    assert np.allclose(once({"volume": given})["conv"], model.predict(given, verbose=0), rtol=1e-5, atol=1e-5)


def test_it_runs_on_another_thread_while_functions_are_inlined_on_this_one() -> None:
    given = keras.Input((9, 4), name="given")
    model = keras.Model(given, layers.LSTM(3, name="lstm")(given))
    made, some = prediction(model), values(2, 9, 4)
    made({"given": some})
    with ThreadPoolExecutor(1) as pool, inlined_functions():
        result = pool.submit(made, {"given": some}).result()
    assert np.allclose(result["lstm"], model.predict(some, verbose=0), atol=1e-6)


def test_an_error_in_a_layer_is_named() -> None:
    class Broken(layers.Layer):
        def call(self, x: Any) -> Any:
            raise RuntimeError("no reason")

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape, x.dtype)

    given = keras.Input((4,), name="given")
    made = prediction(keras.Model(given, Broken(name="broken")(given), name="net"))
    with pytest.raises(InputError, match=r"net: Keras cannot run the model: .*no reason"):
        made({"given": values(2, 4)})
    with pytest.raises(InputError, match=r"net: Keras cannot run the model: .*no reason"):
        Prediction(made.model, made.signature, once=True)({"given": values(2, 4)})


def test_an_error_of_a_later_sample_ends_the_export(tmp_path: Path) -> None:
    """The first samples are run in the graph before Keras runs all of them."""

    class Checked(layers.Layer):
        def call(self, x: Any) -> Any:
            with tf.control_dependencies([tf.debugging.assert_less(x, 5.0, message="too large")]):
                return tf.identity(x)

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape, x.dtype)

    given = keras.Input((4,), name="given")
    model = keras.Model(given, layers.Dense(3, name="dense")(Checked(name="checked")(given)), name="net")
    some = values(5, 4)
    some[4, 0] = 6.0
    np.savez(tmp_path / "mine.npz", given=some)
    with pytest.raises(InputError, match=r"net: Keras cannot run the model: .*too large"):
        converter.export(model, output=tmp_path / "out", formats="saved-model", inputs=tmp_path / "mine.npz")
    assert not (tmp_path / "out").exists()
