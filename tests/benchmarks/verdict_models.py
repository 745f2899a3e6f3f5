"""The exports of `verdicts.py`, everything that needs TensorFlow: `python verdict_models.py DIRECTORY [BASE]...`."""

from __future__ import annotations

import functools
import importlib
import itertools
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from verdict_cases import BASES, SMALL, TINY

from converter.core.foreign import KerasLayer, KerasModel, KerasTensor, Tensor

MODULES = ("verdict_input_models", "verdict_layer_models", "verdict_output_models", "verdict_sequence_models")
"""With this one, the modules whose functions build models; they import Keras."""

TRAINING_IMAGES, TRAINING_SEED, EPOCHS = 1024, 1, 8


@functools.cache
def trained() -> KerasModel:
    """A small classifier that has learnt, with high confidence, the order of an image's mean red, green and blue."""
    import keras
    import tensorflow as tf
    from keras import layers

    from converter.core.data import TensorSpec
    from converter.core.samples import generate

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    image = x = keras.Input(TINY, name="image")
    for number, filters in enumerate((16, 32, 64), start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(layers.ReLU(name=f"relu{number}")(x))
    x = layers.Dense(6, activation="softmax", name="order")(layers.GlobalAveragePooling2D(name="average")(x))
    model = keras.Model(image, x, name="trained")
    images = generate([TensorSpec("image", (None, *TINY))], TRAINING_IMAGES, TRAINING_SEED)["image"]
    means = images.mean(axis=(1, 2))
    orders = [tuple(order) for order in itertools.permutations(range(3))]
    labels = np.array([orders.index(tuple(order)) for order in means.argsort(axis=1).tolist()])
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


def trained_epsilon() -> KerasModel:
    """The same network with the same weights, and PyTorch's epsilon instead of Keras's."""
    import keras

    model = keras.models.clone_model(trained())
    model.set_weights(trained().get_weights())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1e-5
    return model


def unet_classes() -> KerasModel:
    from keras import layers

    return _unet(layers.Conv2D(5, 1, activation="softmax", name="classes"))


def unet_depth() -> KerasModel:
    """A depth in millimetres for each pixel: about 2500 with a spread of 1000."""
    from keras import layers

    return _unet(layers.Conv2D(1, 1, name="depth"), layers.Rescaling(1000.0, 2500.0, name="millimetres"))


def _unet(*head: KerasLayer) -> KerasModel:
    """Two levels with bilinear upsampling, seeded and calibrated."""
    import keras
    from keras import layers

    from converter.sources.untrained import calibrated

    def block(x: KerasTensor, filters: int, name: str) -> KerasTensor:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))

    image = keras.Input(SMALL, name="image")
    level1 = block(image, 16, "down1")
    level2 = block(layers.MaxPooling2D(name="shrink1")(level1), 32, "down2")
    x = block(layers.MaxPooling2D(name="shrink2")(level2), 64, "bottom")
    for name, level, filters in (("up2", level2, 32), ("up1", level1, 16)):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=name)(x)
        x = block(layers.Concatenate(name=f"{name}_join")([x, level]), filters, f"{name}_conv")
    for layer in head:
        x = layer(x)
    model = keras.Model(image, x, name="unet")
    calibrated(model, "unet", 0, {})
    return model


def export_all(work: Path, names: Iterable[str]) -> None:
    """Export every base of `names` that `work` does not have; prints the seconds of each, or why it failed."""
    import keras

    for name in names:
        if exported(work, name).exists():
            continue
        started = time.perf_counter()
        failure_of(work, name).unlink(missing_ok=True)
        try:
            with limited(BASES[name].limit):
                result = _export(work, name)
        except Exception as error:  # noqa: BLE001 - an export that fails is a result of the benchmark
            result = f"{type(error).__name__}: {error}"
            failure_of(work, name).write_text(result)
            result = " ".join(result.split())[:300]
        print(f"{name}: exported in {time.perf_counter() - started:.0f} s, {result}", flush=True)
        keras.backend.clear_session()


def _export(work: Path, name: str) -> str:
    """Export one base; returns the verdict."""
    import keras

    import converter
    from converter.core.data import SourceOptions, WriteOptions

    base = BASES[name]
    keras.utils.set_random_seed(0)
    model = build(base.build) if base.build else base.source
    shape = None if base.build else base.input_shape
    options = converter.ExportOptions(
        base.formats,
        work / name,
        WriteOptions(**base.write_options),
        SourceOptions(input_shape=shape, **base.source_options),
    )
    with traced_with(base.traced_factor):
        return str(converter.export(model, options).verdict)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError if the code in the context takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not finished after {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def build(function: str) -> KerasModel:
    """The model of a function in one of `MODULES`."""
    for module in (sys.modules[__name__], *map(importlib.import_module, MODULES)):
        if hasattr(module, function):
            return getattr(module, function)()
    raise ValueError(f"{function}: no function of this name builds a model")


@contextmanager
def traced_with(factor: float) -> Iterator[None]:
    """Within the context, a traced model returns `factor` times its outputs; what Keras predicts is not affected."""
    from converter.tracing.signature import Signature

    original = Signature.call

    def call(self: Signature, model: KerasModel, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor * factor for tensor in original(self, model, tensors)]

    if factor != 1.0:
        Signature.call = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        Signature.call = original  # type: ignore[method-assign]


def exported(work: Path, name: str) -> Path:
    """The directory of a base's export; an export that did not pass its own proof is checked too."""
    unproven = work / f"{name}.unproven"
    return unproven if unproven.exists() else work / name


def failure_of(work: Path, name: str) -> Path:
    """The file with the reason why a base could not be exported."""
    return work / f"{name}.failed"


if __name__ == "__main__":
    export_all(Path(sys.argv[1]), sys.argv[2:] or BASES)
