"""The four kinds of source as a user sees them, and their messages when something is wrong."""

from __future__ import annotations

import importlib.machinery
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from model_files import layer, sequential, weights_file, write_keras

from converter import sources
from converter.core.data import Array, Source, SourceOptions, TensorSpec
from converter.core.errors import CnnExportError, InputError, UnsafeError, UsageError
from converter.core.foreign import Given, KerasLayer, KerasModel
from converter.sources import applications
from converter.sources.functions import import_file, import_module
from converter.tracing.signature import describe

NETS = '''
import keras
import numpy as np
from keras import layers


class Scale(layers.Layer):
    """Multiplies by a weight and by a factor."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def halve(x):
    return x / 2


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(3, 3)

    def call(self, x):
        return self.conv(x)


def build(units=2):
    print("built")
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(units)])


def lazy():
    return keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])


def called():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3)))
    return model


def not_a_number():
    model = build()
    model.layers[-1].bias.assign([np.nan, 0.0])
    return model


def raises():
    raise RuntimeError("no such dataset\\nin any place")


def nothing():
    return None


def exits():
    raise SystemExit(0)

class Mute(Exception):
    def __str__(self):
        raise ValueError

def mute():
    raise Mute

constant = 5
'''


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a module `my_nets` in it."""
    (tmp_path / "my_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_nets", None)


def load(text: str | Path, **options: object) -> Source:
    return sources.load(str(text), SourceOptions(**options))


def fails(error: type[CnnExportError], text: str | Path, **options: object) -> str:
    with pytest.raises(error) as caught:
        load(text, **options)
    message = str(caught.value)
    assert 1 <= len(message.splitlines()) <= 3
    return message


def small() -> KerasModel:
    keras.utils.set_random_seed(1)
    x = layers.Input((8, 8, 3), name="image")
    h = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="conv")(x))
    return keras.Model(x, layers.Dense(2, activation="softmax", name="head")(layers.Flatten()(h)), name="small")


def test_a_zoo_model_is_seeded_calibrated_and_says_so() -> None:
    one, again, other = (load("resnet18", input_shape=(32, 32, 1), classes=3, seed=seed) for seed in (1, 1, 2))
    assert (one.kind, one.name, one.untrained) == ("zoo", "resnet18", True)
    assert one.detail["seed"] == 1
    assert one.preprocessing["range"] == [0.0, 1.0]
    x = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    np.testing.assert_array_equal(np.asarray(one.model(x)), np.asarray(again.model(x)))
    first, second = np.asarray(one.model(x))
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(np.asarray(other.model(x)) - np.asarray(one.model(x))).max() > 1e-3


def test_calibration_takes_generated_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, tuple[int | None, ...], int]] = []

    def samples(specs: tuple[TensorSpec, ...], count: int, seed: int, ranges: object) -> dict[str, Array]:
        calls.append((specs[0].name, specs[0].shape, count))
        return {specs[0].name: np.random.default_rng(0).random((count, 32, 32, 1), np.float32)}

    monkeypatch.setattr("converter.core.samples.generate", samples)
    sources.load("resnet18", SourceOptions(input_shape=(32, 32, 1)))
    assert calls == [("input", (None, 32, 32, 1), 32)]  # small images take more than eight


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("resnet50", {"input_shape": (32, 32, 3)}, "too small"),
        ("resnet18", {"input_shape": (32, None, 1)}, "fixed sizes"),
        ("resnet18", {"classes": 0}, "classes"),
        ("resnet18", {"weights": "imagenet"}, "none are published"),
        ("resnet50", {"weights": "imagenet", "classes": 5}, "1000 classes"),
        ("keras:MobilNetV2", {}, "did you mean keras:MobileNetV2?"),
        ("keras:MobileNet", {"input_shape": (2, 2, 3)}, "at least"),
        ("keras:MobileNet", {"kwargs": {"colour": 1}}, "colour"),
    ],
)
def test_wrong_usage(text: str, options: Given, words: str) -> None:
    assert words in fails(UsageError, text, **options)


def test_zoo_weights_from_files(tmp_path: Path) -> None:
    model = load("resnet18", input_shape=(32, 32, 1), classes=3).model
    for name in ("w.weights.h5", "w.keras", "w.h5"):
        path = tmp_path / name
        (model.save_weights if name == "w.weights.h5" else model.save)(path)
        source = load("resnet18", input_shape=(32, 32, 1), classes=3, weights=str(path))
        assert not source.untrained
        assert source.detail["weights"] == name
        for ours, theirs in zip(source.model.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    message = fails(InputError, "resnet18", input_shape=(32, 32, 1), classes=4, weights=str(tmp_path / "w.h5"))
    assert "layer predictions" in message
    assert str(tmp_path / "w.h5") in message


def test_missing_and_foreign_weights(tmp_path: Path) -> None:
    assert "no such file" in fails(InputError, "resnet18", weights=str(tmp_path / "none.h5"))
    path = tmp_path / "text.h5"
    path.write_text("hello")
    assert "neither a Keras archive nor HDF5" in fails(
        InputError, "resnet18", input_shape=(32, 32, 1), weights=str(path)
    )


def test_an_application_of_keras() -> None:
    source = load("keras:MobileNetV2", input_shape=(32, 32, 3), classes=5, logits=True, kwargs={"alpha": 0.35})
    assert (source.kind, source.name, source.untrained) == ("keras", "MobileNetV2", True)
    assert source.model.output_shape == (None, 5)
    assert source.preprocessing["range"] == [-1.0, 1.0]
    assert source.detail["arguments"]["alpha"] == 0.35
    assert source.model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize(
    ("name", "arguments", "bounds", "channels"),
    [
        ("EfficientNetB0", {}, [0.0, 255.0], "rgb"),
        ("ConvNeXtTiny", {}, [0.0, 255.0], "rgb"),
        ("MobileNetV3Small", {}, [0.0, 255.0], "rgb"),
        ("MobileNetV3Small", {"include_preprocessing": False}, [-1.0, 1.0], "rgb"),
        ("EfficientNetV2B0", {"include_preprocessing": False}, [-2.117904, 2.64], "rgb"),
        ("ConvNeXtTiny", {"include_preprocessing": False}, [-2.117904, 2.64], "rgb"),
        ("MobileNetV2", {}, [-1.0, 1.0], "rgb"),
        ("VGG16", {}, [-123.68, 151.061], "bgr"),
        ("ResNet50", {}, [-123.68, 151.061], "bgr"),
        ("DenseNet121", {}, [-2.117904, 2.64], "rgb"),
    ],
)
def test_preprocessing_of_the_families(name: str, arguments: Given, bounds: list[float], channels: str) -> None:
    builder = getattr(keras.applications, name)
    found = applications.preprocessing_of(builder, arguments)
    assert found["range"] == bounds
    assert found["channels"] == channels
    if arguments:
        return
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.float32)
    expected = sys.modules[builder.__module__].preprocess_input(pixels.copy(), data_format="channels_last")
    ordered = pixels[..., ::-1] if channels == "bgr" else pixels
    ours = ordered * np.array(found["scale"]) - np.array(found["mean"])
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_every_application_has_preprocessing() -> None:
    for name in applications.builder_names():
        assert applications.preprocessing_of(getattr(keras.applications, name), {})["range"][0] <= 0


def test_a_function(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load("my_nets:build", kwargs={"units": 4})
    assert (source.kind, source.name) == ("function", "build")
    assert source.model.output_shape == (None, 4)
    assert capsys.readouterr().out == ""


def test_a_function_with_weights(nets: Path) -> None:
    model = load("my_nets:build").model
    model.save_weights("w.weights.h5")
    again = load("my_nets:build", weights="w.weights.h5")
    np.testing.assert_array_equal(again.model.get_weights()[0], model.get_weights()[0])
    assert again.detail["weights"] == "w.weights.h5"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("my_nets:raises", "raised RuntimeError: no such dataset in any place"),
        ("my_nets:exits", "raised SystemExit: 0"),
        ("my_nets:mute", "raised Mute: no reason given"),
        ("exiting:build", "importing exiting raised SystemExit: 0"),
        ("my_nets:nothing", "returned nothing (None), not a keras.Model"),
        ("my_nets:constant", "a value of type int, not a function"),
        ("my_nets:biuld", "did you mean my_nets:build?"),
        ("my_nest:build", "no module named my_nest"),
        ("broken:build", "importing broken raised SyntaxError"),
        ("my_nets:not_a_number", "layer dense"),
        ("my_nets:lazy", "--input-shape"),
        ("my_nets:Subclassed", "--input-shape"),
    ],
)
def test_functions_that_give_no_model(nets: Path, text: str, words: str) -> None:
    (nets / "broken.py").write_text("def (:\n")
    (nets / "exiting.py").write_text("raise SystemExit(0)\n")
    assert words in fails(InputError, text)


def test_the_cause_is_kept_for_debugging(nets: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("my_nets:raises")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_models_that_were_never_called_are_built(nets: Path) -> None:
    assert load("my_nets:lazy", input_shape=(8, 8, 3)).model.output_shape == (None, 2)
    for source in (load("my_nets:Subclassed", input_shape=(8, 8, 3)), load("my_nets:called")):
        assert describe(source.model).inputs[0].shape == (None, 8, 8, 3)
    message = fails(UsageError, "my_nets:build", input_shape=(9, 8, 3))
    assert "layer dense" in message
    assert "the model was made for 8x8x3" in message
    assert "cannot be built" in fails(InputError, "my_nets:lazy", input_shape=(2, 2, 3))


def test_a_model_from_python() -> None:
    model = small()
    source = sources.load_object(model, preprocessing={"range": [0.0, 1.0]}, labels=("a", "b"))
    assert source.model is model
    assert (source.name, source.labels) == ("small", ("a", "b"))
    lazy = keras.Sequential([layers.Conv2D(2, 3)])
    with pytest.raises(InputError, match="never built"):
        sources.load_object(lazy)
    assert sources.load_object(lazy, input_shape=(8, 8, 3)).model.built
    with pytest.raises(InputError, match="a value of type int, not a keras"):
        sources.load_object(5)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.hdf5", "m.bin"])
def test_files_of_keras_3(tmp_path: Path, name: str) -> None:
    model = small()
    saved = tmp_path / ("saved.keras" if name == "m.keras" else "saved.h5")
    model.save(saved)
    path = saved.rename(tmp_path / name)
    source = load(path)
    assert source.repairs == ()
    assert source.name == "m"
    assert source.detail["file"] == name
    assert len(source.detail["sha256"]) == 64
    x = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(source.model(x)), np.asarray(model(x)))
    assert not source.model.compiled


def test_a_lambda_with_default_arguments_needs_trust(tmp_path: Path) -> None:
    x = layers.Input((8, 8, 4))
    parts = [layers.Lambda(lambda z, c=c: z[..., c : c + 1], name=f"slice{c}")(x) for c in range(4)]
    model = keras.Model(x, layers.Concatenate()(parts[::-1]))
    images = np.random.default_rng(0).random((2, 8, 8, 4), np.float32)
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        assert ": Lambda runs Python code" in fails(UnsafeError, tmp_path / name)
        source = load(tmp_path / name, trust=True)
        np.testing.assert_array_equal(np.asarray(source.model(images)), images[..., ::-1])
        assert source.detail["trusted"] is True
        assert any("default arguments" in note for note in source.repairs)


def test_trusted_code_finds_the_names_of_keras_2(tmp_path: Path) -> None:
    function = eval("lambda z: tf.nn.relu(z) + np.float32(1)")
    model = keras.Model(x := layers.Input((4, 4, 1)), layers.Lambda(lambda z: z)(x))
    model.layers[-1].function = function
    model.save(tmp_path / "m.keras")
    source = load(tmp_path / "m.keras", trust=True)
    np.testing.assert_array_equal(np.asarray(source.model(-np.ones((1, 4, 4, 1)))), np.ones((1, 4, 4, 1)))


def test_custom_layers(nets: Path) -> None:
    module = import_module("my_nets", "my_nets")
    x = layers.Input((8, 8, 3))
    h = layers.Activation(module.halve)(module.Scale(3.0, name="scaled")(x))
    model = keras.Model(x, h)
    images = np.ones((1, 8, 8, 3), np.float32)
    for name in ("m.keras", "m.h5"):
        model.save(name)
        assert "layer scaled: the class Scale" in fails(InputError, name)
        source = load(name, custom_objects=("my_nets",))
        np.testing.assert_allclose(np.asarray(source.model(images)), 1.5 * images)
        assert source.detail["custom_objects"] == ["my_nets"]
    assert "no module named nets" in fails(InputError, "m.keras", custom_objects=("nets",))
    assert "no Keras class or function" in fails(InputError, "m.keras", custom_objects=("keyword",))


def rewrite_weights(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Apply `change` to the HDF5 file inside a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = path.with_suffix(".inner.h5")
    inner.write_bytes(members["model.weights.h5"])
    with h5py.File(inner, "a") as file:
        change(file)
    members["model.weights.h5"] = inner.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def missing(file: h5py.File) -> None:
    del file["layers/dense/vars/1"]


def misshapen(file: h5py.File) -> None:
    del file["layers/dense/vars/1"]
    file["layers/dense/vars/1"] = np.zeros(3, np.float32)


def nan(file: h5py.File) -> None:
    file["layers/dense/vars/1"][0] = np.nan


@pytest.mark.parametrize("change", [missing, misshapen, nan])
def test_weights_that_do_not_fit_name_the_layer(tmp_path: Path, change: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "m.keras"
    small().save(path)
    rewrite_weights(path, change)
    message = fails(InputError, path)
    assert "layer head" in message
    assert message.startswith(str(path))


def test_a_configuration_that_asks_for_more_than_its_weights(tmp_path: Path) -> None:
    big = write_keras(tmp_path / "big.keras", sequential(layer("Flatten"), layer("Dense", units=10**8, title="d")))
    assert "declare 77,200,000,000 bytes" in fails(UnsafeError, big)
    wide = write_keras(tmp_path / "wide.keras", sequential(layer("UpSampling2D", size=[10**4, 10**4], title="up")))
    assert "layer up: declares 19,200,000,000 values" in fails(UnsafeError, wide)
    assert len(keras.Sequential([keras.Input((2,)), layers.Dense(1)]).weights) == 2  # and Keras still works
    with keras.StatelessScope():
        pass


def test_what_keras_cannot_rebuild_is_one_message(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer("Conv2D", filters=-1, kernel_size=3, title="c")))
    assert "Keras cannot rebuild the model: " in fails(InputError, path)
    unknown = sequential(layer("Flatten"), layer("Dense", units=2, activation="wobble", title="d"))
    message = fails(InputError, write_keras(tmp_path / "u.keras", unknown))
    assert "layer d: " in message
    assert "wobble" in message


def test_a_layer_without_a_name_is_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer("Flatten", title="")))
    assert "a Flatten has an empty name" in fails(InputError, path)


@pytest.mark.parametrize("text", ["x" * 5000 + ".keras", "./" + "x" * 5000])
def test_a_path_that_is_too_long_is_refused(text: str) -> None:
    assert "name too long" in fails(InputError, text)


def test_a_saved_sequential_that_was_never_built(tmp_path: Path) -> None:
    config = sequential(layer("Flatten"), layer("Dense", units=2, title="d"))
    config["config"]["layers"].pop(0)
    rng = np.random.default_rng(0)
    arrays = {"layers/dense/vars/0": rng.random((192, 2), np.float32), "layers/dense/vars/1": np.zeros(2, np.float32)}
    path = write_keras(tmp_path / "m.keras", config, weights_file(arrays))
    assert "never built" in fails(InputError, path)
    source = load(path, input_shape=(8, 8, 3))
    np.testing.assert_array_equal(source.model.get_weights()[0], arrays["layers/dense/vars/0"])


def test_assets_are_not_ignored(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "m.keras", sequential(layer("Flatten")), extra={"assets/x/vocabulary.txt": b"a"})
    assert "vocabulary in assets/" in fails(InputError, path)


def test_detail_is_json(tmp_path: Path) -> None:
    small().save(tmp_path / "m.keras")
    json.dumps(dict(load(tmp_path / "m.keras").detail))


@pytest.mark.parametrize(
    ("first", "bounds"),
    [
        (lambda: [layers.Rescaling(1 / 255)], [0.0, 255.0]),
        (lambda: [layers.Rescaling(1 / 255, offset=-0.5)], [0.0, 255.0]),
        (lambda: [layers.Rescaling([0.01712, 0.01751, 0.01743], [-2.118, -2.036, -1.804])], [0.0, 255.0]),
        (lambda: [layers.Rescaling(2.0, offset=-1.0)], [0.0, 1.0]),
        (lambda: [layers.Rescaling(0.5, offset=0.5)], [-1.0, 1.0]),
        (lambda: [layers.Resizing(6, 6), layers.Rescaling(1 / 127.5, offset=-1)], [0.0, 255.0]),
        (lambda: [keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)])], [0.0, 255.0]),
        (lambda: [layers.Normalization(mean=[100.0] * 3, variance=[400.0] * 3)], [40.0, 160.0]),
        (lambda: [layers.Conv2D(2, 3), layers.Rescaling(1 / 255)], None),
        (lambda: [layers.Activation("relu"), layers.Rescaling(1 / 255)], None),
    ],
)
def test_the_range_of_inputs_comes_from_the_first_layer(
    first: Callable[[], list[KerasLayer]], bounds: list[float] | None
) -> None:
    model = keras.Sequential([layers.Input((8, 8, 3)), *first(), layers.Flatten(), layers.Dense(2)])
    assert sources.load_object(model).preprocessing.get("range") == bounds


def test_a_builder_makes_a_lambda_in_the_file_harmless(nets: Path) -> None:
    x = layers.Input((8, 8, 3))
    h = layers.Dense(2)(layers.Flatten()(layers.Lambda(lambda z: z)(x)))
    model = keras.Model(x, h)
    model.save("m.h5")
    source = load("m.h5", builder="my_nets:build")
    np.testing.assert_array_equal(source.model.get_weights()[0], model.get_weights()[0])


def test_files_of_one_name_are_different_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`json` is one of Python's own modules, too, and stays so for child processes."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "json.py").write_text(f"NUMBER = {number}")
    files = [f"{tmp_path}/{number}/json.py" for number in (0, 1, 2, 1)]
    assert [import_file(path, path).NUMBER for path in files] == [0, 1, 2, 1]
    found = importlib.machinery.PathFinder.find_spec("json", sys.path)
    assert found is not None
    assert not str(found.origin).startswith(str(tmp_path))


@pytest.mark.parametrize(("own", "present"), [(True, False), pytest.param(False, True, marks=pytest.mark.slow)])
def test_keras_is_imported_without_what_it_only_looks_for(own: bool, present: bool) -> None:
    """In the command's own process; in a caller's, everything is as Keras has it."""
    pytest.importorskip("sklearn")
    code = (
        "import sys\nfrom converter.core import machine\nfrom converter.tracing.context import quick_keras\n"
        f"machine.OWN_PROCESS = {own}\nquick_keras()\nprint('sklearn' in sys.modules)\nimport sklearn.base\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(present)
