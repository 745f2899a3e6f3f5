"""Loading weights: every layout, files that are wrong in many ways, and that a failed load changes nothing."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import numpy.typing as npt
import pytest
from keras import layers

from zoo import MODELS, PublishedWeights
from zoo.layouts import legacy_pairs
from zoo.weights import WeightsError, load_weights, published_weights

Array = npt.NDArray[np.generic]
Stored = list[tuple[str, list[tuple[str, Array]]]]  # layer name, its weights by name


def small_model(classes: int = 3, prefix: str = "", seed: int = 0) -> keras.Model:
    """A convolution, BN, two branches of one shape, a separable convolution, dropout and a head; no weight is zero."""
    inputs = keras.Input((8, 8, 3), name="input")
    x = layers.Conv2D(4, 3, name=f"{prefix}conv")(inputs)
    x = layers.BatchNormalization(name=f"{prefix}bn")(x)
    left = layers.Conv2D(4, 1, name=f"{prefix}left")(x)
    right = layers.Conv2D(4, 1, name=f"{prefix}right")(x)
    x = layers.Add(name=f"{prefix}add")([left, right])
    x = layers.SeparableConv2D(6, 3, name=f"{prefix}separable")(x)
    x = layers.GlobalAveragePooling2D(name=f"{prefix}pool")(x)
    x = layers.Dropout(0.5, name=f"{prefix}drop")(x)
    model = keras.Model(inputs, layers.Dense(classes, activation="softmax", name=f"{prefix}head")(x), name="small")
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    return model


def stored_weights(model: keras.Model) -> Stored:
    """Layer by layer, trainable weights first, as Keras 1 and 2 store them."""
    stored = []
    for layer in model.layers:
        nested = isinstance(layer, keras.Model)
        weights = (*layer.trainable_weights, *layer.non_trainable_weights)
        stored.append((layer.name, [(w.path if nested else w.name, w.numpy()) for w in weights]))
    return stored


def write_keras2(root: h5py.Group, stored: Stored) -> None:
    """Names as bytes in attributes; arrays at layer/layer/weight:0."""
    root.attrs["layer_names"] = [name.encode() for name, _ in stored]
    root.attrs["keras_version"] = b"2.2.4"
    root.attrs["backend"] = b"tensorflow"
    for name, weights in stored:
        group = root.create_group(name)
        group.attrs["weight_names"] = [f"{name}/{weight}:0".encode() for weight, _ in weights]
        for weight, values in weights:
            group.create_dataset(f"{name}/{weight}:0", data=values)


def write_keras1(root: h5py.Group, stored: Stored) -> None:
    """Names as bytes, no version, flat array names with Keras 1's suffixes."""
    suffixes = {"kernel": "W", "bias": "b", "moving_mean": "running_mean", "moving_variance": "running_std"}
    root.attrs["layer_names"] = [name.encode() for name, _ in stored]
    for name, weights in stored:
        group = root.create_group(name)
        names = [f"{name}_{suffixes.get(weight, weight)}:0" for weight, _ in weights]
        group.attrs["weight_names"] = [text.encode() for text in names]
        for text, (_, values) in zip(names, weights, strict=True):
            group.create_dataset(text, data=values)


def legacy_file(path: Path, stored: Stored, write: Callable[[h5py.Group, Stored], None] = write_keras2) -> Path:
    with h5py.File(path, "w") as file:
        write(file, stored)
    return path


def same_weights(a: keras.Model, b: keras.Model) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def refused(model: keras.Model, path: Path) -> WeightsError:
    """The error that loading `path` raises; the model must be untouched, the message short."""
    before = model.get_weights()
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path)
    assert all(np.array_equal(x, y) for x, y in zip(before, model.get_weights(), strict=True))
    assert 1 <= len(str(caught.value).splitlines()) <= 3
    assert str(path) in str(caught.value)
    return caught.value


# What loads


def test_keras_3_files_load(tmp_path: Path) -> None:
    source = small_model(seed=1)
    source.save(tmp_path / "whole.keras")
    source.save_weights(tmp_path / "some.weights.h5")
    for name in ("whole.keras", "some.weights.h5"):
        model = small_model(seed=2, prefix="other_")
        load_weights(model, tmp_path / name)
        assert same_weights(model, source)


def test_a_compiled_model_with_an_optimizer_loads(tmp_path: Path) -> None:
    source = small_model(seed=1)
    source.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    source.fit(np.ones((2, 8, 8, 3)), np.eye(3)[:2], verbose=0)
    source.save(tmp_path / "trained.keras")
    model = small_model(seed=2)
    load_weights(model, tmp_path / "trained.keras")
    assert same_weights(model, source)


@pytest.mark.filterwarnings("ignore")  # Keras warns that the format is legacy
def test_the_h5_that_keras_3_writes_loads(tmp_path: Path) -> None:
    source = small_model(seed=1)
    source.save(tmp_path / "whole.h5")
    model = small_model(seed=2)
    load_weights(model, tmp_path / "whole.h5")
    assert same_weights(model, source)


@pytest.mark.parametrize("write", [write_keras1, write_keras2])
@pytest.mark.parametrize("prefix", ["", "other_"])
def test_legacy_files_load(tmp_path: Path, write: Callable[[h5py.Group, Stored], None], prefix: str) -> None:
    source, model = small_model(seed=1), small_model(seed=2, prefix=prefix)
    load_weights(model, legacy_file(tmp_path / "weights.h5", stored_weights(source), write))
    assert same_weights(model, source)


def test_a_whole_keras_2_model_loads_and_its_configuration_is_not_read(tmp_path: Path) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = "{ no JSON at all"
        file.attrs["keras_version"] = b"2.2.4"
        write_keras2(file.create_group("model_weights"), stored_weights(source))
        file.create_group("optimizer_weights")
    load_weights(model, tmp_path / "model.h5")
    assert same_weights(model, source)


def test_equal_names_in_another_order_are_paired_by_name(tmp_path: Path) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    stored = stored_weights(source)
    load_weights(model, legacy_file(tmp_path / "weights.h5", stored[::-1]))
    assert same_weights(model, source)


def test_one_other_name_does_not_change_how_the_other_layers_are_paired(tmp_path: Path) -> None:
    """Layers of one shape in another order, and a head under another name: position would exchange them."""

    def build(seed: int, head: str = "head") -> keras.Model:
        keras.utils.set_random_seed(seed)
        x = image = keras.Input((8, 8, 4))
        for name in ("first", "second", "third"):
            x = layers.Conv2D(4, 3, padding="same", name=name)(x)
        return keras.Model(image, layers.Dense(2, name=head)(x))

    source, model = build(1, "old_head"), build(2)
    load_weights(model, legacy_file(tmp_path / "weights.h5", sorted(stored_weights(source), reverse=True)))
    assert same_weights(model, source)


def test_names_that_keras_gave_are_paired_by_position(tmp_path: Path) -> None:
    """The counters of two sessions overlap: dense_1 is the second layer of the file and the first of the model."""

    def build(seed: int, start: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        x = image = keras.Input((4,))
        for number in range(start, start + 3):
            x = layers.Dense(4, name=f"dense_{number}")(x)
        return keras.Model(image, x)

    source, model = build(1, 0), build(2, 1)
    load_weights(model, legacy_file(tmp_path / "weights.h5", stored_weights(source)))
    assert same_weights(model, source)


def test_the_extension_decides_nothing(tmp_path: Path) -> None:
    source = small_model(seed=1)
    source.save(tmp_path / "a.keras")
    source.save_weights(tmp_path / "b.weights.h5")
    legacy_file(tmp_path / "c.h5", stored_weights(source))
    for name, other in (("a.keras", "a.h5"), ("b.weights.h5", "b.keras"), ("c.h5", "c.weights.h5")):
        (tmp_path / name).rename(tmp_path / other)
        model = small_model(seed=2)
        load_weights(model, tmp_path / other)
        assert same_weights(model, source)


def test_a_keras_archive_is_loaded_without_its_configuration(tmp_path: Path) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    source.save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        weights = archive.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "bare.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"module": "os", "class_name": "system", "config": {}}))
        archive.writestr("model.weights.h5", weights)
    load_weights(model, tmp_path / "bare.keras")
    assert same_weights(model, source)


def test_names_too_long_for_one_attribute_are_joined(tmp_path: Path) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    path = legacy_file(tmp_path / "weights.h5", stored_weights(source))
    with h5py.File(path, "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:4], names[4:]
    load_weights(model, path)
    assert same_weights(model, source)


def test_the_older_keras_3_paths_load(tmp_path: Path) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    source.save_weights(tmp_path / "old.weights.h5")
    with h5py.File(tmp_path / "old.weights.h5", "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    load_weights(model, tmp_path / "old.weights.h5")
    assert same_weights(model, source)


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    source.save_weights(tmp_path / "half.weights.h5")
    kernel = source.get_layer("conv").get_weights()[0]
    with h5py.File(tmp_path / "half.weights.h5", "a") as file:
        del file["layers/conv2d/vars/0"]
        halves = np.asarray(keras.ops.cast(kernel, "bfloat16"))
        file["layers/conv2d/vars"].create_dataset("0", data=halves).attrs["dtype"] = "bfloat16"
    load_weights(model, tmp_path / "half.weights.h5")
    assert model.get_layer("conv").get_weights()[0] == pytest.approx(kernel, rel=1e-2)


def test_normalization_and_nested_models_load(tmp_path: Path) -> None:
    def build(seed: int) -> keras.Model:
        inner = small_model(seed=seed)
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, inner(layers.Normalization(name="norm")(inputs)))

    source, model = build(1), build(2)
    norm = source.get_layer("norm")
    norm.adapt(np.random.default_rng(0).uniform(1, 3, (4, 8, 8, 3)))
    source.save_weights(tmp_path / "a.weights.h5")
    load_weights(model, tmp_path / "a.weights.h5")
    assert same_weights(model, source)
    batch = np.ones((1, 8, 8, 3), np.float32)
    assert np.allclose(model.get_layer("norm")(batch), norm(batch))  # the derived mean follows the loaded one

    third = build(3)
    load_weights(third, legacy_file(tmp_path / "b.h5", stored_weights(source)))
    assert same_weights(third, source)


def test_resnet50_takes_its_public_keras_1_file(tmp_path: Path) -> None:
    """The file's names and shapes; arrays never written take no space on disk and read as zeros."""
    model = MODELS["resnet50"].build(input_shape=(197, 197, 3))
    stored = sorted(stored_weights(model), key=lambda layer: layer[0])  # equal shapes side by side, in another order
    path = tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in stored]
        for name, weights in stored:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_{weight}:0".encode() for weight, _ in weights]
            for weight, values in weights:
                group.create_dataset(f"{name}_{weight}:0", values.shape, np.float32)
    with h5py.File(path) as file:
        pairs = legacy_pairs(file, model)
        assert len(pairs) == 320
        for pair in pairs:
            assert pair.dataset.name == f"/{pair.layer}/{pair.layer}_{pair.variable.name}:0"
            assert pair.dataset.shape == tuple(pair.variable.shape)
    load_weights(model, path)
    assert not any(weight.any() for weight in model.get_weights())


# What does not


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(small_model(), tmp_path / "none.h5").kind == "missing"


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no weights here", b"PK\x03\x04 and then nothing", b"\x89HDF\r\n\x1a\n"]
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.h5").write_bytes(content)
    assert refused(small_model(), tmp_path / "weights.h5").kind == "damaged"


def test_a_directory_and_an_archive_without_weights(tmp_path: Path) -> None:
    assert refused(small_model(), tmp_path).kind == "damaged"
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    error = refused(small_model(), tmp_path / "photos.zip")
    assert error.kind == "damaged"
    assert "model.weights.h5" in str(error)


@pytest.mark.parametrize("name", ["a.keras", "b.weights.h5", "c.h5"])
def test_a_file_cut_short_anywhere(tmp_path: Path, name: str) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    if name == "c.h5":
        legacy_file(tmp_path / name, stored_weights(source))
    else:
        (source.save if name == "a.keras" else source.save_weights)(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        assert refused(model, tmp_path / name).kind == "damaged"


@pytest.mark.parametrize("name", ["b.weights.h5", "c.h5"])
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path, name: str) -> None:
    source, model = small_model(seed=1), small_model(seed=2)
    if name == "c.h5":
        legacy_file(tmp_path / name, stored_weights(source))
    else:
        source.save_weights(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    generator = np.random.default_rng(0)
    kinds = []
    for _ in range(60):
        damaged = bytearray(content)
        start = int(generator.integers(0, len(content) - 16))
        damaged[start : start + 16] = generator.bytes(16)
        (tmp_path / name).write_bytes(damaged)
        try:
            load_weights(model, tmp_path / name)
        except WeightsError as error:
            kinds.append(error.kind)
    assert "damaged" in kinds


def test_a_damaged_archive_member(tmp_path: Path) -> None:
    small_model(seed=1).save(tmp_path / "a.keras")
    content = bytearray((tmp_path / "a.keras").read_bytes())
    middle = content.index(b"\x89HDF") + 3000
    content[middle : middle + 64] = bytes(64 * [0x5A])
    (tmp_path / "a.keras").write_bytes(content)
    error = refused(small_model(seed=2), tmp_path / "a.keras")
    assert error.kind == "damaged"
    assert "CRC" in str(error)


@pytest.mark.parametrize("layout", ["keras3", "legacy"])
def test_another_number_of_classes_names_the_head_and_both_shapes(tmp_path: Path, layout: str) -> None:
    source = small_model(classes=5)
    path = tmp_path / "five.weights.h5"
    if layout == "keras3":
        source.save_weights(path)
    else:
        legacy_file(path, stored_weights(source))
    error = refused(small_model(classes=3), path)
    assert error.kind == "mismatch"
    assert "head" in str(error)
    assert "(6, 3)" in str(error)
    assert "(6, 5)" in str(error)


def test_layers_that_the_file_lacks_or_has_too_many_of(tmp_path: Path) -> None:
    stored = stored_weights(small_model(seed=1))
    error = refused(small_model(), legacy_file(tmp_path / "short.h5", stored[:-1]))
    assert error.kind == "mismatch"
    assert "layer head" in str(error)
    extra = [*stored, ("late", [("kernel", np.ones((2, 2)))])]
    error = refused(small_model(), legacy_file(tmp_path / "long.h5", extra))
    assert error.kind == "mismatch"
    assert "'late'" in str(error)
    fewer = [(name, weights[:1] if name == "left" else weights) for name, weights in stored]
    error = refused(small_model(), legacy_file(tmp_path / "bias.h5", fewer))
    assert error.kind == "mismatch"
    assert "left" in str(error)
    assert "bias" in str(error)


def test_keras_3_layers_that_the_file_lacks_or_has_too_many_of(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    small_model().save_weights(path)
    with h5py.File(path, "a") as file:
        file.copy("layers/dense", "layers/dense_1")
    error = refused(small_model(), path)
    assert error.kind == "mismatch"
    assert "layers/dense_1" in str(error)
    with h5py.File(path, "a") as file:
        del file["layers/dense_1"], file["layers/separable_conv2d"]
    error = refused(small_model(), path)
    assert error.kind == "mismatch"
    assert "separable" in str(error)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layout", ["keras3", "legacy"])
def test_a_nan_names_its_layer_and_variable(tmp_path: Path, layout: str, value: float) -> None:
    source = small_model(seed=1)
    variance = source.get_layer("bn").moving_variance
    variance.assign(np.array([1.0, value, 1.0, 1.0]))
    path = tmp_path / "nan.weights.h5"
    if layout == "keras3":
        source.save_weights(path)
    else:
        legacy_file(path, stored_weights(source))
    error = refused(small_model(seed=2), path)
    assert error.kind == "nan"
    assert "bn" in str(error)
    assert "moving_variance" in str(error)


def test_a_link_into_another_file_is_not_followed(tmp_path: Path) -> None:
    source = small_model(seed=1)
    elsewhere = legacy_file(tmp_path / "elsewhere.h5", stored_weights(source))
    path = legacy_file(tmp_path / "linked.h5", stored_weights(source))
    with h5py.File(path, "a") as file:
        del file["head"]
        file["head"] = h5py.ExternalLink(str(elsewhere), "/head")
    error = refused(small_model(seed=2), path)
    assert error.kind == "damaged"
    assert "another file" in str(error)


def test_text_in_place_of_numbers(tmp_path: Path) -> None:
    stored = stored_weights(small_model(seed=1))
    path = legacy_file(tmp_path / "text.h5", stored)
    with h5py.File(path, "a") as file:
        del file["head/head/bias:0"]
        file["head/head/bias:0"] = [b"a", b"b", b"c"]
    error = refused(small_model(seed=2), path)
    assert error.kind == "mismatch"
    assert "head" in str(error)


def test_an_archive_that_is_far_too_large_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**27))
    assert refused(small_model(), tmp_path / "bomb.keras").kind == "mismatch"


# Published weights


def served(tmp_path: Path, content: bytes, md5: str | None = None) -> PublishedWeights:
    (tmp_path / "served.h5").write_bytes(content)
    digest = md5 or hashlib.md5(content).hexdigest()
    return PublishedWeights(url=(tmp_path / "served.h5").as_uri(), filename="cached.h5", md5=digest)


def test_published_weights_are_downloaded_once_and_nothing_goes_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = replace(MODELS["resnet50"], published=served(tmp_path, b"weights"))
    cached = published_weights(spec, tmp_path)
    assert cached == tmp_path / "models" / "cached.h5"
    assert cached.read_bytes() == b"weights"
    (tmp_path / "served.h5").unlink()
    assert published_weights(spec, tmp_path) == cached
    assert capsys.readouterr().out == ""


def test_published_weights_that_are_unavailable(tmp_path: Path) -> None:
    missing = PublishedWeights(url=(tmp_path / "none.h5").as_uri(), filename="none.h5", md5="0" * 32)
    wrong = served(tmp_path, b"weights", md5="0" * 32)
    for source in (missing, wrong, None):
        with pytest.raises(WeightsError) as caught:
            published_weights(replace(MODELS["xception"], published=source), tmp_path)
        assert caught.value.kind == "unavailable"
        assert "\n" not in str(caught.value)
        assert (source.url if source else "xception") in str(caught.value)
