"""Attacks in the artifacts of a directory that somebody verifies: ONNX, TFLite, SavedModel."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from attack import Place, attack

PROOF = "the comparison with the golden arrays"
OPERATIONS = "the operations of a SavedModel are allowed by name"
WEIGHTS = "weights are read from the artifact's own sidecar alone"


def verified(place: Place, runtime: str) -> list[str]:
    """Arguments that verify the export after its hashes are repaired, in one runtime."""
    place.repair()
    return ["verify", str(place.export), "--runtime", runtime, "--quiet"]


def onnx_with(place: Place, change: Callable[[Any], None]) -> list[str]:
    import onnx

    path = place.export / "model.onnx"
    model = onnx.load(str(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    return verified(place, "onnxruntime")


def _outside(tensor: Any, location: str) -> None:
    """Make a tensor read its bytes from `location`."""
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)


def _largest(model: Any) -> Any:
    return max(model.graph.initializer, key=lambda each: len(each.raw_data))


@attack(".onnx", "weights read from an absolute path: any file of the user", 4, "weights", WEIGHTS)
def weights_from_an_absolute_path(place: Place) -> list[str]:
    return onnx_with(place, lambda model: _outside(_largest(model), str(place.secret)))


@attack(".onnx", "weights read from a path with `..`", 4, "weights", WEIGHTS)
def weights_from_a_parent(place: Place) -> list[str]:
    return onnx_with(place, lambda model: _outside(_largest(model), "../../outside/secret"))


@attack(".onnx", "such weights in a constant of a function that the graph calls", 4, "weights", WEIGHTS)
def weights_in_a_function(place: Place) -> list[str]:
    from onnx import TensorProto, helper

    def change(model: Any) -> None:
        tensor = TensorProto(name="t", data_type=1, dims=[1], raw_data=bytes(4))
        _outside(tensor, str(place.secret))
        node = helper.make_node("Constant", [], ["y"], value=tensor)
        own = helper.make_function("custom", "f", [], ["y"], [node], [helper.make_opsetid("", 17)])
        model.functions.append(own)

    return onnx_with(place, change)


@attack(".onnx", "a sidecar that is a symbolic link", 3, "link", "no link is followed in an artifact")
def sidecar_that_is_a_link(place: Place) -> list[str]:
    (place.export / "model.onnx.data").symlink_to(place.secret)
    return onnx_with(place, lambda model: _outside(_largest(model), "model.onnx.data"))


@attack(".onnx", "an operator of a domain of its own, which a runtime looks up in a library", 8, "FAIL",
        "no library of operators is loaded; the row fails")  # fmt: skip
def operator_of_another_domain(place: Place) -> list[str]:
    def change(model: Any) -> None:
        model.opset_import.add(domain="custom.evil", version=1)
        model.graph.node[0].domain = "custom.evil"

    return onnx_with(place, change)


@attack(".onnx", "one kernel scaled by 1.01, the hashes made right", 1, "FAIL", PROOF)
def one_kernel_scaled(place: Place) -> list[str]:
    import numpy as np

    def change(model: Any) -> None:
        kernel = _largest(model)
        kernel.raw_data = (np.frombuffer(kernel.raw_data, np.float32) * np.float32(1.01)).tobytes()

    return onnx_with(place, change)


@attack(".onnx", "an output that returns what the golden arrays hold, in the order in which they are asked",
        1, "FAIL", "samples are run in batches of several sizes and compared by sample")  # fmt: skip
def answers_learned_by_heart(place: Place) -> list[str]:
    """A constant that is right for the whole batch of samples, cut to as many as are asked for."""
    import numpy as np
    from onnx import helper, numpy_helper

    with np.load(place.export / "golden.npz") as golden:
        answers = {each["name"]: np.asarray(golden[f"reference/{each['name']}"]) for each in place.manifest["outputs"]}

    def change(model: Any) -> None:
        graph = model.graph
        del graph.node[:]
        del graph.initializer[:]
        graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
        graph.node.append(helper.make_node("Shape", [graph.input[0].name], ["shape"]))
        graph.node.append(helper.make_node("Gather", ["shape", "zero"], ["count"]))
        for name, values in answers.items():
            graph.initializer.append(numpy_helper.from_array(values, f"{name}_answers"))
            graph.node.append(helper.make_node("Slice", [f"{name}_answers", "zero", "count", "zero"], [name]))

    return onnx_with(place, change)


@attack(".tflite", "a custom operator, which a runtime looks up by name", 8, "model.tflite",
        "no library of operators is loaded; the row fails")  # fmt: skip
def custom_operator(place: Place) -> list[str]:
    path = place.export / "model.tflite"
    import tensorflow as tf

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 32, 32, 3], tf.float32, name="image")])
        def call(self, image: Any) -> Any:
            return {"main": tf.reshape(tf.math.bessel_i0(image)[0, 0, 0, 0], [1, 1]), "aux": image[:, 0, 0, :]}

    module = Evil()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.call.get_concrete_function()], module)
    converter.allow_custom_ops = True
    path.write_bytes(converter.convert())
    return verified(place, "litert")


@attack(".tflite", "offsets that point outside of the file", 8, "model.tflite", "the runtime runs in a child")
def offsets_out_of_the_file(place: Place) -> list[str]:
    path = place.export / "model.tflite"
    content = bytearray(path.read_bytes())
    content[0:4] = (0x7FFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    return verified(place, "litert")


def saved_model_with(place: Place, effect: Callable[[Any, Any], Any]) -> list[str]:
    """The export's SavedModel whose serving function has an effect besides; `effect` gets TensorFlow and the image."""
    import tensorflow as tf

    path = place.export / "saved_model"
    module = tf.Module()
    module.loaded = tf.saved_model.load(str(path))
    serve = module.loaded.signatures["serving_default"]

    def call(image: Any) -> Any:
        with tf.control_dependencies([effect(tf, image)]):
            return {name: tf.identity(value) for name, value in serve(image=image).items()}

    spec = tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image")
    function = tf.function(call).get_concrete_function(spec)
    tf.saved_model.save(module, str(place.work / "evil"), signatures=function)
    shutil.rmtree(path)
    shutil.move(place.work / "evil", path)
    return verified(place, "tensorflow")


@attack("SavedModel", "an operation that writes a file", 4, "WriteFile", OPERATIONS)
def operation_that_writes(place: Place) -> list[str]:
    return saved_model_with(place, lambda tf, image: tf.io.write_file(str(place.target), "x"))


@attack("SavedModel", "the saver's operation, called while serving", 4, "SaveV2", OPERATIONS)
def operation_of_the_saver(place: Place) -> list[str]:
    return saved_model_with(place, lambda tf, image: tf.raw_ops.SaveV2(
        prefix=str(place.target), tensor_names=["a"], shape_and_slices=[""], tensors=[image]
    ))  # fmt: skip


@attack("SavedModel", "an operation that reads a file into an output", 4, "ReadFile", OPERATIONS)
def operation_that_reads(place: Place) -> list[str]:
    return saved_model_with(place, lambda tf, image: tf.io.read_file(str(place.secret)))


@attack("SavedModel", "an operation that lists a directory, deep in a condition and a function", 4, "MatchingFiles",
        OPERATIONS)  # fmt: skip
def operation_in_depth(place: Place) -> list[str]:
    def effect(tf: Any, image: Any) -> Any:
        listing = tf.function(lambda: tf.size(tf.io.matching_files("/*")))
        return tf.cond(tf.reduce_sum(image) > 0, listing, lambda: tf.constant(0))

    return saved_model_with(place, effect)


@attack("SavedModel", "a print into a file", 4, "PrintV2", OPERATIONS)
def operation_that_prints(place: Place) -> list[str]:
    return saved_model_with(place, lambda tf, image: tf.print("x", output_stream=f"file://{place.target}"))


@attack("SavedModel", "a call of Python", 4, "PyFunc", OPERATIONS)
def operation_that_calls_python(place: Place) -> list[str]:
    return saved_model_with(place, lambda tf, image: tf.numpy_function(lambda x: x, [image], tf.float32))
