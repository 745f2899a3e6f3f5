"""What is known about an architecture without building it, and how it is built."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras

TensorTree: TypeAlias = Any
"""A tensor or array, or several in lists and dicts, as a model takes them."""

Preprocessing: TypeAlias = Mapping[str, str | float | list[float]]
"""How an 8-bit image becomes an input, and the range of the values that result: see `ModelSpec`."""


@dataclass(frozen=True)
class PublishedWeights:
    """Public ImageNet weights: their URL, their file name in Keras's cache, and their MD5 digest."""

    url: str
    filename: str
    md5: str


@dataclass(frozen=True)
class ModelSpec:
    """One architecture of the zoo.

    `input_shape` is (height, width, channels). `parameters` (and `non_trainable`, `layers`, where the architecture
    fixes them) hold for the default `input_shape` and `classes`. `min_size` is the smallest legal height and width.

    `preprocessing` can be written as JSON and says how an 8-bit image becomes an input: reorder to `channels` ("rgb",
    "bgr", "gray"), multiply by `scale`, subtract `mean` per channel; `range` is that of the resulting values.
    """

    name: str
    module: str
    input_shape: tuple[int, int, int]
    classes: int
    parameters: int
    outputs: tuple[str, ...]
    preprocessing: Preprocessing
    summary: str
    min_size: int
    non_trainable: int | None = None
    layers: int | None = None
    published: PublishedWeights | None = None

    def build(
        self,
        classes: int | None = None,
        input_shape: Sequence[int] | None = None,
        logits: bool = False,
        *,
        random: bool = True,
        depth: float = 1.0,
    ) -> keras.Model:
        """The architecture with Keras's initial weights, as a functional `keras.Model` over NHWC inputs.

        `logits` removes the final softmax and changes no layer name. Without `random` the kernels are zeros, for a
        caller that overwrites them: drawing those of VGG-16 takes a second, and a gigabyte. `depth` multiplies the
        number of equal blocks in a row.

        Raises ValueError, in one line, where `classes` is not a positive integer, where `input_shape` is not three of
        them, or where it is smaller than `min_size`; and for a `depth` other than 1 of a network without such blocks.
        """
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        if len(shape) != 3 or not all(_is_positive(size) for size in shape):
            raise ValueError(
                f"{self.name}: the input shape {shape} is not height, width, channels as positive integers"
            )
        count = self.classes if classes is None else classes
        if not _is_positive(count):
            raise ValueError(f"{self.name}: {count!r} classes; give a positive integer")
        height, width, channels = shape
        if min(height, width) < self.min_size:
            least = f"{self.min_size}x{self.min_size}"
            raise ValueError(f"{self.name}: an input of {height}x{width} is too small, the minimum is {least}")
        module = importlib.import_module(self.module)
        chosen = {} if depth == 1.0 else {"depth": depth}
        if not depth > 0 or (chosen and "depth" not in inspect.signature(module.build).parameters):
            raise ValueError(f"{self.name}: cannot be built with depth {depth:g}")

        import keras

        before = keras.config.image_data_format()
        keras.config.set_image_data_format("channels_last")
        try:
            with nullcontext() if random else _kernels_of_zeros():
                return module.build(classes=count, input_shape=(height, width, channels), logits=logits, **chosen)
        finally:
            keras.config.set_image_data_format(before)


@contextmanager
def _kernels_of_zeros() -> Iterator[None]:
    """Within the context, Keras's initializer of kernels, on which the others are based, draws nothing."""
    import keras

    drawing = keras.initializers.VarianceScaling.__call__

    def zeros(self: object, shape: Sequence[int], dtype: str | None = None) -> object:
        return keras.ops.zeros(shape, dtype or keras.config.floatx())

    keras.initializers.VarianceScaling.__call__ = zeros
    try:
        yield
    finally:
        keras.initializers.VarianceScaling.__call__ = drawing


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
