"""The trace computes what Keras predicts, for every kind of layer, with its weights outside and its names kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.core.data import Array, Traced
from converter.core.errors import ConversionError
from converter.core.foreign import KerasModel, KerasTensor, Tensor
from converter.proof.domains import effect
from converter.tracing.trace import trace

if TYPE_CHECKING:
    from conftest import Small

STATISTICS = {"Rsqrt", "FusedBatchNorm", "FusedBatchNormV3", "ReadVariableOp", "VarHandleOp"}


def run_graph(traced: Traced, inputs: dict[str, Array]) -> dict[str, Array]:
    """The GraphDef in a session of TensorFlow 1, its weights fed like inputs.

    Without Grappler's remapping: it would fuse a grouped convolution with its bias, which has no CPU kernel.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import rewriter_config_pb2

    feeds = {f"{name}:0": array for name, array in (*inputs.items(), *traced.weights.items())}
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(traced.graph_def, name="")
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            values = session.run([f"{name}:0" for name in traced.outputs], feeds)
    return dict(zip(traced.outputs, values, strict=True))


def operators(traced: Traced) -> Counter[str]:
    return Counter(node.op for node in traced.graph_def.node)


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "as-is"])
def test_graph_equals_predict(small: Small, fold: bool, assert_close: Callable[..., None]) -> None:
    traced = small.traced if fold else trace(small.model, small.signature, fold=False)
    assert_close(run_graph(traced, small.inputs), small.expected)


def test_any_batch_size_runs(small: Small, assert_close: Callable[..., None]) -> None:
    one = {name: array[:1] for name, array in small.inputs.items()}
    assert_close(run_graph(small.traced, one), {name: array[:1] for name, array in small.expected.items()})


def test_graph_has_no_control_inputs_no_functions_and_no_statistics(small: Small) -> None:
    graph_def = small.traced.graph_def
    assert [name for node in graph_def.node for name in node.input if name.startswith("^")] == []
    assert list(graph_def.library.function) == []
    assert set(operators(small.traced)) & STATISTICS == set()
    assert len({node.name for node in graph_def.node}) == len(graph_def.node)


def test_placeholders_are_the_inputs_and_the_weights(small: Small) -> None:
    placeholders = {node.name for node in small.traced.graph_def.node if node.op == "Placeholder"}
    assert placeholders == set(small.traced.inputs) | set(small.traced.weights)
    assert list(small.traced.inputs) == [spec.name for spec in small.signature.inputs]
    assert list(small.traced.outputs) == [spec.name for spec in small.signature.outputs]


def test_weights_have_the_paths_of_their_variables(small: Small) -> None:
    paths = {variable.path for variable in small.model.variables}
    paths |= {path.removeprefix(f"{small.model.name}/") for path in paths}
    kernels = {name for name in small.traced.weights if name.endswith("kernel")}
    assert kernels <= paths
    large = {
        v.path.removeprefix("net/") for v in small.model.variables if np.prod(v.shape) * 4 > 1024 and len(v.shape) > 1
    }
    assert {path for path in large if path.endswith("kernel")} <= set(small.traced.weights)


def test_tracing_leaves_the_model_unchanged(small: Small) -> None:
    before = [variable.numpy() for variable in small.model.variables]
    trace(small.model, small.signature)
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, small.model.variables, strict=True))
    layers = small.model._flatten_layers()
    assert [layer.name for layer in layers if "call" in vars(layer) and layer is not small.model] == []


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        ("grouped", {"Conv2D": 2, "BiasAdd": 2}),
        ("transposed", {"Conv2DBackpropInput": 2, "BiasAdd": 2}),
        ("separable", {"DepthwiseConv2dNative": 1, "Conv2D": 1, "BiasAdd": 1}),
        ("conv3d", {"Conv3D": 1, "BiasAdd": 1}),
        ("nested", {"Conv2D": 2, "BiasAdd": 2}),
    ],
)
def test_batch_norm_is_folded_into_the_layer_before_it(
    builder: str, expected: dict[str, int], build_small: Callable[[str], Small]
) -> None:
    found = operators(build_small(builder).traced)
    assert {name: found[name] for name in expected} == expected
    assert found["Mul"] == 0
    assert found["AddV2"] == 0


def test_batch_norm_stays_where_it_cannot_be_folded(build_small: Callable[[str], Small]) -> None:
    """In `bn_around` the first one is before its convolution, whose zero padding it must not change."""
    found = operators(build_small("bn_around").traced)
    assert found["Mul"] == 1
    assert found["Conv2D"] == 2


def test_a_kernel_that_two_calls_read_is_not_folded_into(build_small: Callable[[str], Small]) -> None:
    small = build_small("shared")
    assert np.array_equal(small.traced.weights["twice/kernel"], small.model.get_layer("twice").kernel.numpy())


def test_folding_by_hand(build_small: Callable[[str], Small]) -> None:
    """Ioffe and Szegedy (2015): kernel * gamma / sqrt(variance + epsilon), per output channel."""
    small = build_small("grouped")
    bn, conv = small.model.get_layer("bn"), small.model.get_layer("pairs")
    scale = bn.gamma.numpy().astype(np.float64) / np.sqrt(bn.moving_variance.numpy().astype(np.float64) + 1.001e-5)
    expected = conv.kernel.numpy().astype(np.float64) * scale
    assert np.allclose(small.traced.weights["pairs/kernel"], expected, rtol=1e-6, atol=0)
    assert not np.allclose(small.traced.weights["pairs/kernel"], conv.kernel.numpy(), rtol=1e-2)


def test_grouped_convolution_is_one_operator(build_small: Callable[[str], Small]) -> None:
    traced = build_small("grouped").traced
    assert traced.weights["pairs/kernel"].shape == (3, 3, 3, 16)
    assert traced.weights["eights/kernel"].shape == (3, 3, 2, 32)
    assert not {"Split", "Slice", "StridedSlice", "ConcatV2", "StatefulPartitionedCall"} & set(operators(traced))


def test_float64_reference_is_measured(small: Small) -> None:
    """Every kind of layer has one, and it is float64: within float32 rounding of Keras, but not equal to it."""
    from converter.tracing import reference

    exact = reference.measured(small.model, small.signature, small.inputs, effect).golden.exact
    assert list(exact) == list(small.expected)
    for name, array in exact.items():
        assert array.dtype == np.float64
        distance = np.max(np.abs(array - small.expected[name][: len(array)])) / np.max(np.abs(array))
        assert 0 < distance < 1e-5, name


def test_activations_are_recognized(build_small: Callable[[str], Small]) -> None:
    outputs = build_small("outputs_in_a_list").traced.outputs
    assert {name: spec.activation for name, spec in outputs.items()} == {
        "main": "softmax",
        "aux1": "sigmoid",
        "conv": "linear",
    }


def test_batch_can_be_fixed(build_small: Callable[[str], Small]) -> None:
    small = build_small("pools")
    traced = trace(small.model, small.signature.with_batch(2))
    assert next(iter(traced.inputs.values())).shape[0] == 2
    assert next(iter(traced.outputs.values())).shape == (2, 5)


def test_height_and_width_may_stay_dynamic(
    build_small: Callable[..., Small], assert_close: Callable[..., None]
) -> None:
    def build() -> KerasModel:
        import keras
        from keras import layers

        given = keras.Input((None, None, 3), name="given")
        x = layers.Conv2D(16, 3, padding="same", name="conv")(given)
        x = layers.BatchNormalization(name="bn")(x)
        return keras.Model(given, layers.GlobalAveragePooling2D(name="pool")(x), name="net")

    small = build_small(build)
    other = np.random.default_rng(3).standard_normal((2, 9, 17, 3), np.float32)
    expected = {"pool": small.model.predict(other, verbose=0)}
    assert_close(run_graph(small.traced, {"given": other}), expected)


def test_state_that_no_format_can_store_is_refused_by_name() -> None:
    import keras
    import tensorflow as tf

    from converter.tracing.signature import describe

    class Table(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="table")
            pairs = tf.lookup.KeyValueTensorInitializer([0, 1], [1.0, 2.0], tf.int32, tf.float32)
            self.table = tf.lookup.StaticHashTable(pairs, 0.0)

        def call(self, x: Tensor) -> Tensor:
            return x + self.table.lookup(tf.cast(x, tf.int32))

        def compute_output_spec(self, x: KerasTensor) -> KerasTensor:
            return keras.KerasTensor(x.shape, x.dtype)

    given = keras.Input((4,), name="given")
    model = keras.Model(given, Table()(given), name="net")
    with pytest.raises(ConversionError, match=r"table \(Table\).*not a plain variable"):
        trace(model, describe(model))


def test_a_layer_that_needs_fixed_sizes_is_reported(build_small: Callable[[Callable[[], KerasModel]], Small]) -> None:
    def build() -> KerasModel:
        import keras
        from keras import layers

        class Even(layers.Layer):
            def call(self, x: Tensor) -> Tensor:
                return x * 2.0 if x.shape[1] % 2 == 0 else x

            def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
                return shape

        given = keras.Input((None, 8, 3), name="given")
        return keras.Model(given, Even(name="even")(layers.Conv2D(4, 3, name="conv")(given)), name="net")

    small = build_small(build)
    with pytest.raises(ConversionError, match=r"net: cannot be traced for inputs of shape \(None, None, 8, 3\)"):
        trace(small.model, small.signature)
