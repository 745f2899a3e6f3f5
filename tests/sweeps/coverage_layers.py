"""A small model around every layer class of Keras that can stand in one; for `coverage.py`.

`CASES` has the layers to apply, one after the other, to an input of a shape; or a function that makes a model.
`LEFT_OUT` says why a class has none. Another name of the same class (AvgPool2D) has the row of the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

IMAGE, FILM, SERIES = (8, 8, 4), (6, 6, 6, 2), (8, 4)


@dataclass(frozen=True)
class Stack:
    """Layers that `make` returns, one after the other, on an input."""

    make: Callable[[], list[Any]]
    shape: tuple[int | None, ...] = IMAGE
    dtype: str = "float32"


Case = Stack | Callable[[], keras.Model]


def _one(name: str, *arguments: Any, shape: tuple[int | None, ...] = IMAGE, **keywords: Any) -> dict[str, Case]:
    return {name: Stack(lambda: [getattr(layers, name.split(":")[0])(*arguments, **keywords)], shape)}


def _merging(name: str, **keywords: Any) -> dict[str, Case]:
    def build() -> keras.Model:
        one, other = keras.Input(SERIES, name="one"), keras.Input(SERIES, name="other")
        return keras.Model([one, other], getattr(layers, name)(**keywords)([one, other]))

    return {name: build}


def _attending(name: str, *arguments: Any, **keywords: Any) -> dict[str, Case]:
    def build() -> keras.Model:
        query, value = keras.Input(SERIES, name="query"), keras.Input((6, 4), name="value")
        found = getattr(layers, name)(*arguments, **keywords)
        given = (query, value) if name in ("MultiHeadAttention", "GroupQueryAttention") else ([query, value],)
        return keras.Model([query, value], found(*given))

    return {name: build}


def _adapted() -> keras.Model:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(2.0, 3.0, (64, 4)).astype(np.float32))
    series = keras.Input((4,), name="facts")
    return keras.Model(series, layers.Dense(3)(layer(series)))


def _tokens(*stack: Any, count: int = 20) -> keras.Model:
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    outputs = layers.Embedding(count, 8, mask_zero=True)(tokens)
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(tokens, outputs)


def _looked_up(layer: Any, count: int = 20, dtype: str = "int32") -> keras.Model:
    given = keras.Input((5,), dtype=dtype, name="given")
    found = layer(given)
    if "int" in str(found.dtype):
        found = layers.Embedding(count, 4)(found)
    return keras.Model(given, layers.Dense(3)(found))


def _tied() -> keras.Model:
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    table = layers.ReversibleEmbedding(20, 8)
    return keras.Model(tokens, table(layers.Dense(8)(table(tokens)), reverse=True))


def _words(layer: Any) -> keras.Model:
    given = keras.Input((), dtype="string", name="words")
    return keras.Model(given, layers.Dense(3)(layers.Embedding(10, 4)(layer(given))))


def _crossed() -> keras.Model:
    one, other = keras.Input((1,), dtype="int32", name="one"), keras.Input((1,), dtype="int32", name="other")
    return keras.Model([one, other], layers.Dense(3)(layers.HashedCrossing(9, output_mode="one_hot")((one, other))))


class _Cell(layers.Layer):
    """A cell of a user."""

    state_size = 5

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1] + 5, 5), name="kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        found = keras.ops.tanh(keras.ops.concatenate([inputs, states[0]], -1) @ self.kernel)
        return found, [found]


CASES: dict[str, Case] = {}
"""By the name of a class, or that name, a colon, and a variant"""
for _each in (
    _one("Activation", "gelu"),
    _one("ActivityRegularization", 0.1),
    _one("AlphaDropout", 0.3),
    _one("BatchNormalization"),
    _one("CenterCrop", 6, 5),
    _one("Dense", 5),
    _one("DepthwiseConv2D", 3, padding="same", depth_multiplier=2),
    _one("DepthwiseConv1D", 3, shape=SERIES),
    _one("Dropout", 0.3),
    _one("ELU"),
    _one("EinsumDense", "abc,cd->abd", (None, 5), bias_axes="d", shape=SERIES),
    _one("Flatten"),
    _one("GaussianDropout", 0.3),
    _one("GaussianNoise", 0.3),
    _one("GroupNormalization", 2),
    _one("Identity"),
    _one("LayerNormalization"),
    _one("LeakyReLU"),
    _one("PReLU"),
    _one("Permute", (3, 1, 2)),
    _one("RMSNormalization"),
    _one("ReLU", 0.7, 0.1, 0.2),
    _one("RepeatVector", 3, shape=(5,)),
    _one("Rescaling", 1 / 127.5, -1.0),
    _one("Reshape", (4, -1)),
    _one("Softmax"),
    _one("SpatialDropout1D", 0.3, shape=SERIES),
    _one("SpatialDropout2D", 0.3),
    _one("SpatialDropout3D", 0.3, shape=FILM),
    _one("UnitNormalization"),
    _one("Resizing", 5, 11),
    _one("Solarization", shape=(8, 8, 3)),
    _one("SeparableConv1D", 5, 3, shape=SERIES),
    _one("SeparableConv2D", 5, 3, dilation_rate=2),
    _one("MelSpectrogram", 32, 16, 32, "hann", 8000, 8, shape=(256,)),
    _one("STFTSpectrogram", shape=(256, 1), frame_length=32, frame_step=16, fft_length=32, window=None),
    _one("ZeroPadding1D", 2, shape=SERIES),
    _one("ZeroPadding2D", ((1, 0), (2, 1))),
    _one("ZeroPadding3D", 1, shape=FILM),
    _one("UpSampling1D", 2, shape=SERIES),
    _one("UpSampling2D", 2, interpolation="bilinear"),
    _one("UpSampling3D", 2, shape=FILM),
    _one("Cropping1D", 1, shape=SERIES),
    _one("Cropping2D", ((1, 2), (0, 1))),
    _one("Cropping3D", 1, shape=FILM),
    _one("LSTM", 5, shape=SERIES, return_sequences=True),
    _one("GRU", 5, shape=(None, 4), return_sequences=True),
    _one("SimpleRNN", 5, shape=SERIES, go_backwards=True),
    _one("ConvLSTM1D", 3, 3, shape=(4, 8, 2)),
    _one("ConvLSTM2D", 3, 3, padding="same", shape=(4, 6, 6, 2), return_sequences=True),
    _one("ConvLSTM3D", 3, 2, shape=(3, 4, 4, 4, 2)),
    _merging("Add"),
    _merging("Average"),
    _merging("Concatenate", axis=1),
    _merging("Dot", axes=2, normalize=True),
    _merging("Maximum"),
    _merging("Minimum"),
    _merging("Multiply"),
    _merging("Subtract"),
    _attending("AdditiveAttention"),
    _attending("Attention", use_scale=True),
    _attending("GroupQueryAttention", 4, 4, 2),
    _attending("MultiHeadAttention", 2, 4),
):
    CASES |= _each
for _rank, _shape in ((1, SERIES), (2, IMAGE), (3, FILM)):
    CASES |= _one(f"Conv{_rank}D", 5, 3, shape=_shape)
    CASES |= _one(f"Conv{_rank}D: dilated", 5, 3, shape=_shape, dilation_rate=2)
    CASES |= _one(f"Conv{_rank}D: groups", 4, 3, shape=_shape, groups=2)
    CASES |= _one(f"Conv{_rank}DTranspose", 3, 3, shape=_shape, strides=2, padding="same")
    CASES |= _one(f"Conv{_rank}DTranspose: dilated", 3, 3, shape=_shape, dilation_rate=2)
    CASES |= _one(f"Conv{_rank}DTranspose: output padding", 3, 3, shape=_shape, strides=2, output_padding=1)
    CASES |= _one(f"AveragePooling{_rank}D", 3, 2, "same", shape=_shape)
    CASES |= _one(f"MaxPooling{_rank}D", 3, 2, "same", shape=_shape)
    CASES |= _one(f"GlobalAveragePooling{_rank}D", shape=_shape)
    CASES |= _one(f"GlobalMaxPooling{_rank}D", shape=_shape)
    CASES |= _one(f"AdaptiveAveragePooling{_rank}D", 3, shape=_shape)
    CASES |= _one(f"AdaptiveMaxPooling{_rank}D", 3, shape=_shape)
for _kind in ("nearest", "bicubic", "area", "lanczos3", "lanczos5"):
    CASES |= _one(f"Resizing: {_kind}", 5, 11, _kind)
CASES |= _one("Resizing: antialias", 5, 11, antialias=True)
CASES |= _one("Resizing: crop to aspect ratio", 5, 11, crop_to_aspect_ratio=True)
CASES |= _one("Resizing: pad to aspect ratio", 5, 11, pad_to_aspect_ratio=True)
CASES |= _one("UpSampling2D: bicubic", 2, interpolation="bicubic")
CASES |= _one("UpSampling2D: nearest", 2)
for _name, _arguments in {
    "AugMix": (),
    "AutoContrast": (),
    "ContrastLimitedAdaptiveHistogramEqualization": (),
    "Equalization": (),
    "RandAugment": (),
    "RandomBrightness": (0.2,),
    "RandomColorDegeneration": (0.5,),
    "RandomColorJitter": (),
    "RandomContrast": (0.2,),
    "RandomCrop": (6, 6),
    "RandomElasticTransform": (),
    "RandomErasing": (),
    "RandomFlip": (),
    "RandomGaussianBlur": (),
    "RandomGrayscale": (),
    "RandomHue": (0.5,),
    "RandomInvert": (),
    "RandomPerspective": (),
    "RandomPosterization": (4,),
    "RandomRotation": (0.2,),
    "RandomSaturation": (0.5,),
    "RandomSharpness": (0.5,),
    "RandomShear": (),
    "RandomTranslation": (0.2, 0.2),
    "RandomZoom": (0.2,),
    "MixUp": (),
    "CutMix": (),
}.items():
    CASES[_name] = Stack(
        lambda name=_name, arguments=_arguments: [getattr(layers, name)(*arguments), layers.Rescaling(2.0)], (8, 8, 3)
    )
for _merge in ("sum", "mul", "ave"):
    CASES[f"Bidirectional: {_merge}"] = Stack(
        lambda merge=_merge: [layers.Bidirectional(layers.GRU(4, return_sequences=True), merge)], SERIES
    )
for _name in ("LSTM", "GRU", "SimpleRNN"):
    CASES[f"{_name}: masked"] = Stack(lambda name=_name: [layers.Masking(0.5), getattr(layers, name)(4)], SERIES)
    CASES |= _one(f"{_name}: unrolled", 4, shape=(3, 4), unroll=True)
    CASES |= _one(f"{_name}: relu", 4, "relu", shape=SERIES)
CASES |= _one("GRU: reset before", 4, shape=SERIES, reset_after=False)
CASES |= {
    "Bidirectional": Stack(lambda: [layers.Bidirectional(layers.LSTM(4, return_sequences=True))], SERIES),
    "CategoryEncoding": lambda: _looked_up(layers.CategoryEncoding(8, output_mode="multi_hot")),
    "Discretization": lambda: _float_to_index(layers.Discretization([-0.5, 0.2, 0.4, 0.8])),
    "Embedding": lambda: _tokens(layers.GlobalAveragePooling1D()),
    "GRUCell": Stack(lambda: [layers.RNN(layers.GRUCell(4))], SERIES),
    "HashedCrossing": _crossed,
    "Hashing": lambda: _looked_up(layers.Hashing(9)),
    "IntegerLookup": lambda: _looked_up(layers.IntegerLookup(vocabulary=[2, 4, 7])),
    "LSTMCell": Stack(lambda: [layers.RNN(layers.LSTMCell(4))], SERIES),
    "Lambda": Stack(lambda: [layers.Lambda(lambda x: x * 2.0 + 1.0)]),
    "Masking": Stack(lambda: [layers.Masking(0.5), layers.LSTM(4)], SERIES),
    "Normalization": _adapted,
    "Pipeline": Stack(lambda: [layers.Pipeline([layers.Rescaling(2.0), layers.RandomFlip()])], (8, 8, 3)),
    "RNN": Stack(lambda: [layers.RNN(_Cell(), return_sequences=True)], (20, 4)),
    "ReversibleEmbedding": _tied,
    "SimpleRNNCell": Stack(lambda: [layers.RNN(layers.SimpleRNNCell(4), return_sequences=True)], SERIES),
    "SpectralNormalization": Stack(lambda: [layers.SpectralNormalization(layers.Conv2D(5, 3))]),
    "StackedRNNCells": Stack(
        lambda: [layers.RNN(layers.StackedRNNCells([layers.GRUCell(4), layers.LSTMCell(3)]))], SERIES
    ),
    "StringLookup": lambda: _words(layers.StringLookup(vocabulary=["one", "two", "three"])),
    "TextVectorization": lambda: _words(layers.TextVectorization(vocabulary=["one", "two"], output_sequence_length=4)),
    "TimeDistributed": Stack(lambda: [layers.TimeDistributed(layers.Conv2D(3, 3))], (4, 6, 6, 2)),
}


def _float_to_index(layer: Any) -> keras.Model:
    given = keras.Input((5,), name="given")
    return keras.Model(given, layers.Dense(3)(layers.Embedding(6, 4)(layer(given))))


LEFT_OUT = {
    "FlaxLayer": "needs Flax",
    "InputLayer": "is part of every model",
    "InputSpec": "is no layer",
    "JaxLayer": "needs JAX",
    "Layer": "is the base of all others",
    "MaxNumBoundingBoxes": "takes labels, in training",
    "TFSMLayer": "is a SavedModel",
    "TorchModuleWrapper": "needs PyTorch",
    "Wrapper": "is the base of others",
}


def names() -> list[str]:
    """Every public class of `keras.layers`, another name of the same class left out."""
    found: dict[type, str] = {}
    for name in sorted(dir(layers), key=lambda name: (getattr(getattr(layers, name), "__name__", "") != name, name)):
        value = getattr(layers, name)
        if isinstance(value, type) and not name.startswith("_"):
            found.setdefault(value, name)
    return sorted(found.values())


def model(name: str) -> keras.Model:
    """The model of a case, with weights that let every part matter."""
    case = CASES[name]
    if isinstance(case, Stack):
        inputs = outputs = keras.Input(case.shape, dtype=case.dtype, name="given")
        for layer in case.make():
            outputs = layer(outputs)
        built = keras.Model(inputs, outputs, name="layers")
    else:
        built = case()
    generator = np.random.default_rng(0)
    for weight in built.weights:
        if "float" in str(weight.dtype) and "normalization/" not in weight.path and weight.trainable:
            fan = max(1, int(np.prod(weight.shape[:-1])))
            weight.assign(generator.normal(size=weight.shape) / fan**0.5 + 0.02)
    return built
