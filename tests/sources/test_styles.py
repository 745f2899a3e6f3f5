"""Models written in every style: shapes that are asked for, arguments, nesting, names, state, tables, preprocessing.

Each is exported to all three formats and run in this process on inputs that the proof would draw; whole proofs of a few
are in tests/pipeline/test_styles.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from converter import sources
from converter.core.data import SourceOptions, WriteOptions
from converter.core.errors import ConversionError, InputError, UsageError
from converter.core.samples import InputOptions
from converter.formats import FORMATS
from converter.pipeline.fitting import fitting_sizes
from converter.pipeline.inputs import draws
from converter.pipeline.text_inputs import refuse_text_inputs, refuse_text_outputs
from converter.runtimes import RUNTIMES
from converter.sources import load_object
from converter.tracing.context import legal_scopes
from converter.tracing.lookups import lookups
from converter.tracing.prediction import predict
from converter.tracing.signature import describe
from converter.tracing.trace import trace

FIRST = {"saved-model": "tensorflow", "tflite": "litert", "onnx": "onnxruntime"}
IMAGE = (12, 12, 3)


def image(name: str = "image", shape: tuple[int | None, ...] = IMAGE, **settings: Any) -> Any:
    return keras.Input(shape, name=name, **settings)


def pooled(x: Any, units: int = 4, **settings: Any) -> Any:
    return layers.Dense(units, **settings)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x)))


def called(model: Any, *arguments: Any, **others: Any) -> Any:
    """`model` after a call, as a user trains it before it is exported."""
    model(*arguments, **others)
    return model


ZEROS = np.zeros((1, *IMAGE), np.float32)


class Convolutional(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="convolutional")
        self.first = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")
        self.last = layers.Conv2D(2, 1, name="last")

    def call(self, x: Any) -> Any:
        return self.last(self.first(x))


class Pair(keras.Model):
    """Two images: as arguments, in a list, in a dict."""

    def __init__(self) -> None:
        super().__init__(name="pair")
        self.convolution = layers.Conv2D(4, 3, name="convolution")
        self.dense = layers.Dense(3, name="dense")

    def call(self, left: Any, right: Any) -> Any:
        both = [ops.mean(self.convolution(each), (1, 2)) for each in (left, right)]
        return self.dense(ops.concatenate([both[0], 2 * both[1]], -1))


class ListPair(Pair):
    def call(self, images: Any) -> Any:
        return super().call(*images)


class DictPair(Pair):
    def call(self, images: Any) -> Any:
        return super().call(images["left"], images["right"])


class NestedPair(Pair):
    def call(self, images: Any) -> Any:
        return {"scores": (super().call(images["a"]["left"], images["b"][0]),), "right": images["b"][0]}


class OptionalPair(Pair):
    def call(self, left: Any, right: Any = None) -> Any:
        return super().call(left, left if right is None else right)


class BuiltOnly(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="built")
        self.dense = layers.Dense(3, name="dense")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class Tokens(keras.Model):
    """A vocabulary of 50 and positions up to 12, of which a call sees a part."""

    def __init__(self) -> None:
        super().__init__(name="tokens")
        self.words, self.places = layers.Embedding(50, 6, name="words"), layers.Embedding(12, 6, name="places")
        self.dense = layers.Dense(3, name="dense")

    def call(self, x: Any) -> Any:
        return self.dense(ops.mean(self.words(x) + self.places(ops.arange(ops.shape(x)[1])), 1))


class Layer(keras.layers.Layer):
    """A layer of one function; with a variable, `change` gives its next value."""

    def __init__(self, function: Callable[..., Any], change: Callable[..., Any] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.function, self.change = function, change

    def build(self, shape: Any) -> None:
        if self.change is not None:
            self.state = self.add_weight(shape=(), initializer="zeros", trainable=False, name="state")

    def call(self, x: Any) -> Any:
        if self.change is None:
            return self.function(x)
        result = self.function(x, self.state)
        self.state.assign(self.change(x, self.state))
        return result


def functional(make: Callable[[Any], Any], **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        x = image(**settings)
        return keras.Model(x, make(x))

    return build


def keyword_names() -> Any:
    x = image("class")
    y = pooled(x)
    return keras.Model(x, {"return": y, "lambda": 2 * y})


def colliding_names() -> Any:
    inputs = [image("a b"), image("a_b"), image("A_B"), image("self")]
    y = layers.Dense(3, name="größe eins")(pooled(layers.Concatenate(name="alle bilder")(inputs)))
    return keras.Model(inputs, {"größe": y, "gr__e": 2 * y, "7": 3 * y}, name="mein modell")


def nested_three_deep() -> Any:
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = image("x", (6, 6, 4))
    inner = keras.Model(x, shared(x), name="inner")
    x = image("y", (6, 6, 4))
    middle = keras.Model(x, inner(shared(inner(x))), name="middle")
    x = image("z", (6, 6, 4))
    outer = keras.Model(x, [middle(x), shared(x)], name="outer")
    x = image()
    one, other = outer(layers.Conv2D(4, 7, name="stem")(x))
    return keras.Model(x, layers.GlobalAveragePooling2D(name="pool")(one + other))


def unused_input() -> Any:
    x = image()
    return keras.Model([x, keras.Input((4,), name="unused")], pooled(x))


def scalar_input() -> Any:
    x, time = image(), keras.Input((), name="time")
    return keras.Model([x, time], pooled(x) * layers.Reshape((1,))(time))


def one_tensor_often() -> Any:
    x = image()
    y = layers.Conv2D(4, 3, activation="relu", name="features")(x)
    return keras.Model(x, {"a": y, "b": layers.Dropout(0.5, name="dropout")(y), "image": x, "c": y})


def kinds_of_outputs() -> Any:
    x = image()
    y = pooled(x)
    return keras.Model(x, {"scores": y, "many": ops.cast(20 * y, "int32"), "positive": y > 0, "mean": ops.mean(y, -1)})


def over_frames() -> Any:
    x = image()
    inner, video = keras.Model(x, pooled(x), name="inner"), keras.Input((2, *IMAGE), name="video")
    return keras.Model(video, layers.Flatten(name="flat")(layers.TimeDistributed(inner, name="frames")(video)))


def of_integers(layer: Any, dtype: str = "int64", size: int = 5) -> Callable[[], Any]:
    def build() -> Any:
        x = keras.Input((size,), dtype=dtype, name="x")
        return keras.Model(x, layers.Dense(3, name="dense")(ops.cast(layers.Flatten()(layer()(x)), "float32")))

    return build


STYLES: dict[str, tuple[Callable[[], Any], list[str], list[str]]] = {
    "several arguments": (
        lambda: load_object(Pair(), input_shape={"left": IMAGE, "right": IMAGE}).model,
        ["left", "right"],
        ["output"],
    ),
    "a list": (lambda: called(ListPair(), [ZEROS, ZEROS]), ["input_0", "input_1"], ["output"]),
    "a tuple": (lambda: called(ListPair(), (ZEROS, ZEROS)), ["input_0", "input_1"], ["output"]),
    "a dict": (lambda: called(DictPair(), {"left": ZEROS, "right": ZEROS}), ["left", "right"], ["output"]),
    "nested": (
        lambda: called(NestedPair(), {"a": {"left": ZEROS}, "b": [ZEROS]}),
        ["left", "b_0"],
        ["right", "output_1"],
    ),
    "an argument that was left out": (lambda: called(OptionalPair(), ZEROS), ["input"], ["output"]),
    "built and never called": (lambda: (lambda m: (m.build((None, 5)), m)[1])(BuiltOnly()), ["input"], ["output"]),
    "integers for an embedding": (lambda: called(Tokens(), np.zeros((1, 12), np.int32)), ["input"], ["output"]),
    "keywords as names": (keyword_names, ["class"], ["lambda", "return"]),
    "names that collide": (
        colliding_names,
        ["a_b", "a_b_2", "A_B_3", "self_"],
        ["7", "gr__e", "gr__e_2"],
    ),
    "nested three deep": (nested_three_deep, ["image"], ["pool"]),
    "an input that nothing reads": (unused_input, ["image", "unused"], ["dense"]),
    "an input of one number": (scalar_input, ["image", "time"], ["multiply"]),
    "one tensor as several outputs": (one_tensor_often, ["image"], ["a", "b", "c", "image_2"]),
    "whole numbers and truth": (kinds_of_outputs, ["image"], ["many", "mean", "positive", "scores"]),
    "a model at every step": (over_frames, ["video"], ["flat"]),
    "a counter": (
        functional(lambda x: pooled(Layer(lambda x, n: 2 * x, lambda x, n: n + 1, name="counter")(x), name="y")),
        ["image"],
        ["y"],
    ),
    "a layer that draws": (functional(lambda x: pooled(layers.RandomHue(0.2)(x), name="y")), ["image"], ["y"]),
    "resizing with padding": (
        functional(lambda x: pooled(layers.Resizing(8, 6, pad_to_aspect_ratio=True, fill_value=0.5)(x), name="y")),
        ["image"],
        ["y"],
    ),
    "resizing with padding, any size": (
        functional(
            lambda x: pooled(layers.Resizing(8, 6, pad_to_aspect_ratio=True)(x), name="y"), shape=(None, None, 3)
        ),
        ["image"],
        ["y"],
    ),
    "resizing with cropping": (
        functional(lambda x: pooled(layers.Resizing(8, 6, crop_to_aspect_ratio=True)(x), name="y")),
        ["image"],
        ["y"],
    ),
    "a vocabulary of integers": (
        of_integers(lambda: layers.IntegerLookup(vocabulary=[1, 3, 5, 700])),
        ["x"],
        ["dense"],
    ),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.backend.clear_session()  # so that names begin without a number
    keras.utils.set_random_seed(0)


def exported(model: Any, directory: Path, **sizes: int) -> tuple[Any, dict[str, Any]]:
    """The signature of `model`, and the shape of each output, equal to Keras's in every format."""
    source = load_object(model)
    signature = describe(source.model)
    drawn = next(draws(source, signature, InputOptions(sizes=sizes), 3, 0)).inputs
    with legal_scopes():
        expected = predict(source.model, signature, drawn)
        traced = trace(source.model, signature)
    for name, form in FORMATS.items():
        artifact = form.write(traced, directory, WriteOptions())
        answers = RUNTIMES[FIRST[name]].prepare(directory / artifact.path, artifact, "cpu").run(drawn)
        for output, array in expected.items():
            assert answers[output].dtype == array.dtype, (name, output)
            np.testing.assert_allclose(answers[output], array, rtol=1e-4, atol=1e-5, err_msg=f"{name} {output}")
    return signature, {name: array.shape[1:] for name, array in expected.items()}


@pytest.mark.parametrize("style", STYLES)
def test_style(style: str, tmp_path: Path) -> None:
    build, inputs, outputs = STYLES[style]
    sizes = {"H": 10, "W": 14} if "any size" in style else {}
    signature, _ = exported(build(), tmp_path, **sizes)
    assert [spec.name for spec in signature.inputs] == inputs
    assert sorted(spec.name for spec in signature.outputs) == sorted(outputs)


def sequential() -> Any:
    return keras.Sequential([layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), layers.Dense(2)])


def built_sequential() -> Any:
    model = sequential()
    model.build((None, *IMAGE))
    return model


def with_backbone() -> Any:
    x = image("inside")
    backbone = keras.Model(x, layers.Conv2D(4, 3, activation="relu")(x), name="backbone")
    x = image()
    return keras.Model(
        x, layers.GlobalMaxPooling2D(name="pool")(keras.Sequential([backbone], name="part")(x)), name="with_backbone"
    )


def two_inputs() -> Any:
    x, size = image(shape=(None, None, 3)), keras.Input((3,), name="size")
    return keras.Model({"image": x, "size": size}, pooled(x, 3) + size)


ANY = (None, None, 3)
SHAPES = [
    (lambda: called(Convolutional(), ZEROS), (12, 18, 3), [(12, 18, 3)]),
    (lambda: called(Convolutional(), ZEROS), ANY, [ANY]),
    (Convolutional, (12, 18, 3), [(12, 18, 3)]),
    (Convolutional, ANY, [ANY]),
    (functional(pooled), (16, 10, 3), [(16, 10, 3)]),
    (functional(pooled), ANY, [ANY]),
    (functional(pooled, shape=ANY), (16, 10, 3), [(16, 10, 3)]),
    (with_backbone, (16, 10, 3), [(16, 10, 3)]),
    (sequential, (12, 18, 3), [(12, 18, 3)]),
    (built_sequential, ANY, [ANY]),
    (two_inputs, {"image": (16, 10, 3)}, [(16, 10, 3), (3,)]),
    (DictPair, {"left": IMAGE, "right": (12, 18, 3)}, [IMAGE, (12, 18, 3)]),
    (ListPair, {"0": IMAGE, "1": (12, 18, 3)}, [IMAGE, (12, 18, 3)]),
    (lambda: called(DictPair(), {"left": ZEROS, "right": ZEROS}), {"right": (8, 9, 3)}, [IMAGE, (8, 9, 3)]),
    (lambda: called(Pair(), ZEROS, right=ZEROS), {"left": IMAGE, "right": (8, 9, 3)}, [IMAGE, (8, 9, 3)]),
    (lambda: called(Tokens(), np.zeros((1, 5), np.int32)), (None,), [(None,)]),
]


def called_alone(model: Any, inputs: Any) -> Any:
    """What `model` returns for inputs of any size, without Keras's check of the declared one."""
    if model.name == "with_backbone":  # which is checked inside too
        return model.get_layer("pool")(model.get_layer("part").layers[0].layers[1](inputs))
    return model.call(inputs)


@pytest.mark.parametrize(("build", "asked", "shapes"), SHAPES)
def test_shape_that_is_asked_for(build: Callable[[], Any], asked: Any, shapes: Any) -> None:
    model = build()
    source = load_object(model, input_shape=asked)
    signature = describe(source.model)
    assert [spec.shape[1:] for spec in signature.inputs] == shapes
    drawn = next(draws(source, signature, InputOptions(), 2, 0)).inputs
    if any(None in shape for shape in shapes):
        drawn = {name: array[:, :9] if array.ndim == 2 else array[:, :9, :14] for name, array in drawn.items()}
    flat = [drawn[spec.name] for spec in signature.inputs]
    own = model(*flat) if type(model) is Pair else called_alone(model, signature.pack(flat))
    expected = [np.asarray(each) for each in keras.tree.flatten(own)]
    for array, one in zip(predict(source.model, signature, drawn).values(), expected, strict=True):
        np.testing.assert_allclose(array, one, rtol=1e-5, atol=1e-6)
    assert {id(each) for each in source.model.weights} == {id(each) for each in model.weights}


def flat_classifier() -> Any:
    x = image()
    return keras.Model(x, layers.Dense(3, name="classifier")(layers.Flatten()(layers.Conv2D(4, 3)(x))))


REFUSED = [
    (flat_classifier, (13, 12, 3), UsageError, ["13x12x3", "layer classifier (Dense)", "12x12x3"]),
    (functional(pooled), (12, 12), UsageError, ["12x12", "layer conv2d"]),
    (lambda: called(Convolutional(), ZEROS), (12, 12, 4), UsageError, ["12x12x4", "layer first (Conv2D)"]),
    (two_inputs, (12, 12, 3), UsageError, ["2 inputs", "image=HxWxC,size=HxWxC"]),
    (two_inputs, {"picture": (12, 12, 3)}, UsageError, ["'picture'", "image, size"]),
    (Convolutional, {"x": (2, 2), "y": (3,)}, InputError, ["cannot be built for x=2x2,y=3"]),
    (lambda: called(Pair(), ZEROS, ZEROS), None, InputError, ["right", "left=12x12x3,right=HxWxC"]),
    (sequential, None, InputError, ["never built", "--input-shape"]),
]


@pytest.mark.parametrize(("build", "asked", "kind", "parts"), REFUSED)
def test_shape_that_is_refused(build: Callable[[], Any], asked: Any, kind: type[Exception], parts: list[str]) -> None:
    with pytest.raises(kind) as caught:
        load_object(build(), input_shape=asked)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_file_for_another_shape(tmp_path: Path) -> None:
    model = two_inputs()
    model.save(tmp_path / "model.keras")
    shapes = {"image": (9, 11, 3)}
    loaded = sources.load(str(tmp_path / "model.keras"), SourceOptions(input_shape=shapes)).model
    assert [tuple(each.shape) for each in loaded.inputs] == [(None, 9, 11, 3), (None, 3)]
    given = {"image": np.ones((2, 9, 11, 3), np.float32), "size": np.ones((2, 3), np.float32)}
    np.testing.assert_allclose(loaded.predict(given, verbose=0), model.predict(given, verbose=0), rtol=1e-5)


def test_an_index_is_bounded_by_its_table() -> None:
    source = load_object(called(Tokens(), np.zeros((1, 12), np.int32)))
    signature = describe(source.model)
    assert signature.inputs[0].dtype == "int32"
    found = lookups(source.model, signature)
    assert [(each.size, each.only) for each in found] == [(50, True)]
    drawn = next(draws(source, signature, InputOptions(), 50, 0)).inputs["input"]
    assert (drawn.min(), drawn.max()) == (0, 49)


def test_a_sequence_is_as_long_as_its_positions() -> None:
    source = load_object(Tokens(), input_shape=(None,))
    signature = describe(source.model)
    drawn = next(draws(source, signature, InputOptions(), 2, 0)).inputs
    assert drawn["input"].shape == (2, 16)
    assert fitting_sizes(source.model, signature, drawn) == {"input": (12,)}


def test_changed_state_is_left_out_and_kept() -> None:
    x = image()
    counter = Layer(lambda x, n: x - n, lambda x, n: 0.9 * n + 1.0, name="moving")
    model = keras.Model(x, pooled(counter(x)))
    signature = describe(model)
    traced = trace(model, signature)
    assert traced.warnings == (
        "moving (Layer): changes its state at every call; the artifacts keep the value that it has now",
    )
    assert not [node.op for node in traced.graph_def.node if "Assign" in node.op]
    predict(model, signature, {"image": np.ones((2, *IMAGE), np.float32)})
    assert float(counter.state) == 0.0


def test_a_seed_that_no_output_depends_on_needs_no_warning() -> None:
    model = functional(lambda x: pooled(layers.RandomHue(0.2)(x)))()
    assert trace(model, describe(model)).warnings == ()


def test_an_output_that_depends_on_a_change_is_refused() -> None:
    class Late(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.number = self.add_weight(shape=(), initializer="zeros", trainable=False, name="number")

        def call(self, x: Any) -> Any:
            self.number.assign(self.number + 1.0)
            return x * self.number

    x = image()
    model = keras.Model(x, pooled(Late(name="late")(x)))
    with pytest.raises(ConversionError, match=r"late \(Late\): an output depends on a variable"):
        trace(model, describe(model))


def test_a_variable_of_tensorflow_may_change_too() -> None:
    class Counter(keras.layers.Layer):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.number = tf.Variable(0.0, trainable=False)

        def call(self, x: Any) -> Any:
            self.number.assign_add(1.0)
            return x

    x = image()
    model = keras.Model(x, pooled(Counter(name="counter")(x)))
    assert len(trace(model, describe(model)).warnings) == 1


def of_text() -> Any:
    x = keras.Input((1,), dtype="string", name="text")
    words = layers.TextVectorization(20, output_sequence_length=5, vocabulary=["house", "tree", "river"], name="words")
    return keras.Model(x, layers.Dense(3, name="dense")(layers.Flatten()(layers.Embedding(20, 4)(words(x)))))


class Text(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="text")
        self.lookup = layers.StringLookup(vocabulary=["a", "b"], name="lookup")
        self.words, self.dense = layers.Embedding(3, 4), layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(ops.mean(self.words(self.lookup(x)), 1))


def test_text_is_drawn_from_the_vocabulary(tmp_path: Path) -> None:
    source = load_object(of_text())
    signature = describe(source.model)
    drawn = next(draws(source, signature, InputOptions(), 40, 0)).inputs
    words = {word for text in drawn["text"].ravel() for word in text.decode().split()}
    assert {"house", "tree", "river"} < words
    artifact = FORMATS["saved-model"].write(trace(source.model, signature), tmp_path, WriteOptions())
    answers = RUNTIMES["tensorflow"].prepare(tmp_path / artifact.path, artifact, "cpu").run(drawn)
    np.testing.assert_allclose(answers["dense"], predict(source.model, signature, drawn)["dense"], rtol=1e-5, atol=1e-6)


def test_a_subclassed_model_of_text_takes_text() -> None:
    source = load_object(called(Text(), tf.constant([["a", "b", "c"]])))
    assert [(spec.shape, spec.dtype) for spec in describe(source.model).inputs] == [((None, 3), "string")]


def test_text_that_is_an_output_is_refused() -> None:
    x = keras.Input((2,), dtype="int64", name="index")
    model = keras.Model(x, layers.StringLookup(vocabulary=["a", "b"], invert=True, name="text")(x))
    with pytest.raises(ConversionError, match=r"output text is text for text \(StringLookup\)"):
        refuse_text_outputs(model, describe(model))


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_text_is_refused_by_name(form: str) -> None:
    model = of_text()
    with pytest.raises(ConversionError, match=rf"input text is text for words \(TextVectorization\).*{form} cannot"):
        refuse_text_inputs(model, describe(model), FORMATS[form])


def test_the_users_model_stays_as_it_is() -> None:
    model = with_backbone()
    frozen = model.get_layer("part").layers[0].layers[1]
    frozen.trainable = False
    before = model.to_json()
    load_object(model, input_shape=(16, 10, 3))
    assert model.to_json() == before
    assert not frozen.trainable


def test_a_model_around_another_is_made_only_where_it_is_needed() -> None:
    plain = called(Convolutional(), ZEROS)
    assert load_object(plain).model is plain
    assert load_object(plain, input_shape=IMAGE).model is plain
    assert load_object(plain, input_shape=(8, 8, 3)).model is not plain
    x = image()
    own = keras.Model(x, pooled(x, name="same"), name="same")
    assert [spec.name for spec in describe(load_object(own).model).outputs] == ["same"]


def test_names_of_layers_that_tensorflow_refuses_are_those_of_the_graph(tmp_path: Path) -> None:
    model = colliding_names()
    with legal_scopes():
        traced = trace(model, describe(model))
    assert traced.layers["gr__e_eins"] == "Dense"
    assert {"alle_bilder/concat", "gr__e_eins/kernel"} <= {node.name for node in traced.graph_def.node}


@pytest.mark.parametrize("name", ["Image", "a-b", "0", "class", "image"])
def test_a_saved_model_has_the_names_of_the_inputs(name: str, tmp_path: Path) -> None:
    x = image(name)
    model = keras.Model(x, pooled(x, name="y"))
    artifact = FORMATS["saved-model"].write(trace(model, describe(model)), tmp_path, WriteOptions())
    signature = tf.saved_model.load(str(tmp_path / artifact.path)).signatures["serving_default"]
    given = np.random.default_rng(0).random((2, *IMAGE)).astype(np.float32)
    np.testing.assert_allclose(signature(**{name: tf.constant(given)})["y"], model(given), rtol=1e-4, atol=1e-5)
