"""Every format computes what Keras predicts, under Keras's names, in plain operators that runtimes execute fast.

The files are loaded here with each runtime's own API, not through `converter.runtimes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.core.data import Array, Artifact, WriteOptions
from converter.core.errors import ConversionError
from converter.core.foreign import KerasModel, OnnxAttribute, OnnxModel, Tensor
from converter.formats import FORMATS
from converter.formats.onnx import file as onnx_file
from converter.tracing.trace import trace

if TYPE_CHECKING:
    from conftest import Small

Build = Callable[..., "Small"]
AssertClose = Callable[..., None]

SHUFFLES = {"Slice", "StridedSlice", "Split", "SPLIT", "SLICE", "STRIDED_SLICE", "Concat", "ConcatV2", "CONCATENATION"}


def run_onnx(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(inputs)
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def run_tflite(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    """Through the signature, as an application would: names are those of `serving_default`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    details = interpreter.get_input_details()
    assert sorted(each["name"] for each in details) == sorted(inputs)
    for each in details:
        interpreter.resize_tensor_input(each["index"], inputs[each["name"]].shape)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    return {name: np.array(array) for name, array in runner(**inputs).items()}


def run_saved_model(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    assert list(loaded.signatures) == ["serving_default"]
    outputs = loaded.signatures["serving_default"](**{name: tf.constant(array) for name, array in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


RUN = {"onnx": run_onnx, "tflite": run_tflite, "saved-model": run_saved_model}


@pytest.fixture(params=list(FORMATS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(kind: str, small: Small, directory: Path, **options: Any) -> tuple[Path, Artifact]:
    chosen = WriteOptions(**options)
    traced = trace(small.model, small.signature.with_batch(chosen.batch)) if chosen.batch else small.traced
    artifact = FORMATS[kind].write(traced, directory, chosen)
    return directory / artifact.path, artifact


def read_onnx(path: Path) -> OnnxModel:
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(str(path))


def nodes_of(model: OnnxModel, operator: str) -> Iterator[dict[str, OnnxAttribute]]:
    import onnx

    for node in model.graph.node:
        if node.op_type == operator:
            yield {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def test_format_equals_predict(small: Small, kind: str, tmp_path: Path, assert_close: AssertClose) -> None:
    path, artifact = write(kind, small, tmp_path)
    assert_close(RUN[kind](path, small.inputs), small.expected)
    assert [spec.name for spec in artifact.inputs] == list(small.inputs)
    assert [spec.name for spec in artifact.outputs] == list(small.expected)
    one = {name: array[:1] for name, array in small.inputs.items()}
    assert_close(RUN[kind](path, one), {name: array[:1] for name, array in small.expected.items()})
    assert_described(artifact, tmp_path)


def assert_described(artifact: Artifact, directory: Path) -> None:
    """The artifact's files, size and operators are those of the files in the directory."""
    files = [file for file in directory.rglob("*") if file.is_file()]
    assert sorted(artifact.options["files"]) == sorted(file.relative_to(directory).as_posix() for file in files)
    assert artifact.size == sum(file.stat().st_size for file in files)
    assert artifact.operators
    assert not [name for name in artifact.operators if "Flex" in name or "XLA" in name.upper()]
    if artifact.format == "onnx":
        graph = read_onnx(directory / artifact.path).graph
        assert artifact.operators == Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("opset", [13, 18, *(pytest.param(opset, marks=pytest.mark.slow) for opset in range(14, 18))])
def test_every_opset(opset: int, tmp_path: Path, build_small: Build, assert_close: AssertClose) -> None:
    for builder in ("outputs_in_a_list", "upsampling_bilinear"):
        small = build_small(builder)
        path, _ = write("onnx", small, tmp_path, opset=opset)
        assert {entry.domain: entry.version for entry in read_onnx(path).opset_import}[""] == opset
        assert_close(run_onnx(path, small.inputs), small.expected)


def test_fixed_batch(kind: str, tmp_path: Path, build_small: Build, assert_close: AssertClose) -> None:
    small = build_small("pools")
    path, artifact = write(kind, small, tmp_path, batch=3)
    assert artifact.inputs[0].shape == (3, 12, 10, 6)
    assert artifact.outputs[0].shape == (3, 5)
    assert_close(RUN[kind](path, small.inputs), small.expected)
    if kind == "onnx":
        value = read_onnx(path).graph.input[0]
        assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [3, 12, 10, 6]


def test_dynamic_batch_has_one_name(tmp_path: Path, build_small: Build) -> None:
    path, _ = write("onnx", build_small("many_inputs"), tmp_path)
    graph = read_onnx(path).graph
    batches = {value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)}
    assert batches == {"batch"}


@pytest.mark.parametrize("builder", ["pools", "flatten_dense", "grouped"])
def test_channels_first(builder: str, tmp_path: Path, build_small: Build, assert_close: AssertClose) -> None:
    """Inputs are NCHW and reach the first convolution unchanged."""
    small = build_small(builder)
    path, artifact = write("onnx", small, tmp_path, layout="nchw")
    model = read_onnx(path)
    given = model.graph.input[0]
    assert [size.dim_value for size in given.type.tensor_type.shape.dim][1:] == [6, 12, 10]
    assert artifact.inputs[0].layout == "nchw"
    assert artifact.inputs[0].shape == (None, 6, 12, 10)
    assert "Transpose" not in [node.op_type for node in model.graph.node if "given" in node.input]
    if builder != "grouped":  # its output is an image, which stays channels-last
        assert "Transpose" not in artifact.operators
    inputs = {name: np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for name, array in small.inputs.items()}
    assert_close(run_onnx(path, inputs), small.expected)


def test_channels_last_has_one_transpose_at_the_input(tmp_path: Path, build_small: Build) -> None:
    _, artifact = write("onnx", build_small("flatten_dense"), tmp_path)
    assert artifact.operators.get("Transpose") == 1


def test_grouped_convolution_is_native(kind: str, tmp_path: Path, build_small: Build) -> None:
    path, artifact = write(kind, build_small("grouped"), tmp_path)
    name = {"onnx": "Conv", "tflite": "CONV_2D", "saved-model": "Conv2D"}[kind]
    assert artifact.operators[name] == 2
    assert not SHUFFLES & set(artifact.operators)
    if kind == "onnx":
        assert [attributes["group"] for attributes in nodes_of(read_onnx(path), "Conv")] == [2, 8]


def test_batch_norm_leaves_no_operator(kind: str, tmp_path: Path, build_small: Build) -> None:
    _, artifact = write(kind, build_small("grouped"), tmp_path)
    left = {"BatchNormalization", "Mul", "MUL", "Add", "ADD", "AddV2", "Rsqrt", "RSQRT", "Sqrt"} & set(
        artifact.operators
    )
    assert not left


def test_onnx_nodes_and_weights_carry_layer_names(tmp_path: Path, build_small: Build) -> None:
    path, _ = write("onnx", build_small("grouped"), tmp_path)
    graph = read_onnx(path).graph
    assert {"pairs/kernel", "eights/kernel"} <= {tensor.name for tensor in graph.initializer}
    assert {node.name.split("/")[0] for node in graph.node if node.op_type == "Conv"} == {"pairs", "eights"}
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)


def test_onnx_graph_inputs_are_the_models_only(tmp_path: Path, build_small: Build) -> None:
    """Constants that a layer captured become initializers, not inputs without a value."""
    path, _ = write("onnx", build_small("normalization"), tmp_path)
    assert [value.name for value in read_onnx(path).graph.input] == ["given"]


def test_onnx_sidecar(
    tmp_path: Path, build_small: Build, monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    """Above the limit the weights are in a file beside the model, each at an offset that can be mapped."""
    import onnx

    small = build_small("flatten_dense")
    monkeypatch.setattr(onnx_file.save, "__defaults__", (1000,))
    path, artifact = write("onnx", small, tmp_path)
    assert artifact.options["files"] == ["model.onnx", "model.onnx.data"]
    sidecar = tmp_path / "model.onnx.data"
    assert artifact.size == path.stat().st_size + sidecar.stat().st_size
    model = onnx.load(str(path), load_external_data=False)
    external = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert external
    for tensor in external:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert entries["location"] == "model.onnx.data"
        assert int(entries["offset"]) % 4096 == 0
        assert int(entries["offset"]) + int(entries["length"]) <= sidecar.stat().st_size
    onnx.checker.check_model(str(path), full_check=True)
    assert_close(run_onnx(path, small.inputs), small.expected)


def test_saved_model_needs_no_keras_to_load(tmp_path: Path, build_small: Build) -> None:
    """No function that asks for XLA, no Keras object, no training state."""
    from tensorflow.core.protobuf import saved_model_pb2

    path, _ = write("saved-model", build_small("grouped"), tmp_path)
    content = (path / "saved_model.pb").read_bytes()
    saved = saved_model_pb2.SavedModel.FromString(content)
    assert b"_XlaMustCompile" not in content
    assert b"keras" not in content.lower()
    assert list(saved.meta_graphs[0].signature_def["serving_default"].inputs) == ["given"]


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_unmapped_operator_names_the_layer_and_leaves_no_file(kind: str, tmp_path: Path, build_small: Build) -> None:
    def build() -> KerasModel:
        import keras
        import tensorflow as tf
        from keras import layers

        class Bessel(layers.Layer):
            def call(self, x: Tensor) -> Tensor:
                return tf.math.bessel_i0e(x)

        given = keras.Input((12, 10, 6), name="given")
        x = Bessel(name="strange")(layers.Conv2D(8, 3, name="conv")(given))
        return keras.Model(given, layers.GlobalAveragePooling2D(name="pool")(x), name="net")

    with pytest.raises(ConversionError) as caught:
        write(kind, build_small(build), tmp_path)
    message = str(caught.value)
    assert message.startswith("strange (Bessel): ")
    assert "BesselI0e" in message
    assert len(message.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


def test_an_unmapped_operator_does_not_keep_the_optimizers_busy(tmp_path: Path, build_small: Build) -> None:
    """With a Bitcast in the graph, two optimizers undid each other."""

    def bits() -> Any:
        import keras
        import tensorflow as tf
        from keras import layers

        given = keras.Input((12, 10, 6), name="given")
        x = layers.Conv2D(8, 1, name="conv")(given)
        read = layers.Lambda(lambda z: tf.argmax(tf.bitcast(z, tf.int32), axis=-1), output_shape=(12, 10), name="label")
        return keras.Model(given, read(x), name="net")

    with pytest.raises(ConversionError, match=r"label \(Lambda\): operator Bitcast"):
        FORMATS["onnx"].write(build_small(bits).traced, tmp_path, WriteOptions())


def test_labels_in_every_format(tmp_path: Path) -> None:
    """Keras reads the bits of what it compares, which no runtime has an operator for."""
    import keras

    from converter.tracing.signature import describe

    class Labels(keras.layers.Layer):
        def call(self, x: Tensor) -> list[Tensor]:
            ops = keras.ops
            return [ops.argmax(x, axis=-1), ops.argmin(x, axis=1, keepdims=True), ops.argmax(ops.abs(x), axis=-2)]

    given = keras.Input((12, 10, 6), name="given")
    model = keras.Model(given, Labels(name="labels")(keras.layers.Conv2D(8, 1)(given)))
    inputs = {"given": np.random.default_rng(0).normal(size=(3, 12, 10, 6)).astype(np.float32)}
    expected = [np.asarray(each) for each in model(inputs["given"])]
    signature = describe(model)
    for name, run in (("onnx", run_onnx), ("tflite", run_tflite), ("saved-model", run_saved_model)):
        (tmp_path / name).mkdir()
        artifact = FORMATS[name].write(trace(model, signature), tmp_path / name, WriteOptions())
        outputs = run(tmp_path / name / artifact.path, inputs)
        for spec, array in zip(artifact.outputs, expected, strict=True):
            np.testing.assert_array_equal(outputs[spec.name], array, err_msg=name)


@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh", "sigmoid"])
def test_a_dense_layer_without_bias_keeps_its_activation_in_tflite(activation: str, tmp_path: Path) -> None:
    """TensorFlow's converter drops it where the kernel, which is bound later, is an input."""
    import keras
    from ai_edge_litert.interpreter import Interpreter

    from converter.tracing.signature import describe
    from converter.tracing.trace import trace

    layers = [keras.layers.Dense(24, activation, use_bias=False), keras.layers.Dense(30, activation)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    FORMATS["tflite"].write(trace(model, describe(model)), tmp_path, WriteOptions())
    given = np.random.default_rng(0).uniform(-1, 1, (1, 64)).astype(np.float32)
    interpreter = Interpreter(str(tmp_path / "model.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, np.asarray(model(given)), rtol=0, atol=1e-5)
