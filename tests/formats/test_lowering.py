"""Operators that a format lacks, replaced by others: the same numbers as TensorFlow's own kernels, in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_operators import check

ELEMENTWISE = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "erf", "erfc", "erfinv", "expm1", "log1p"),
    *("sinh", "tan", "bessel_i0"),
)
"""Functions of tf.math"""

SPECIAL = {"acosh": lambda x: 1.0 + x * x * 9.0, "tan": lambda x: x * 1.2, "erfinv": lambda x: x * 0.9}


def _function(name: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    return getattr(tf.math, name) if name != "bessel_i0" else tf.math.special.bessel_i0  # type: ignore[no-any-return]


@pytest.mark.parametrize("group", [ELEMENTWISE[:8], ELEMENTWISE[8:]])
def test_functions_of_one_number(group: tuple[str, ...], tmp_path: Path) -> None:
    def call(x: Any) -> list[Any]:
        return [_function(name)(SPECIAL.get(name, lambda x: x)(x)) for name in group]

    check(call, tmp_path, (5, 8))


def test_functions_in_the_body_of_a_loop(tmp_path: Path) -> None:
    """Also in functions that the graph calls."""
    import keras
    import tensorflow as tf

    def call(x: Any) -> Any:
        def step(state: Any, row: Any) -> Any:
            return tf.math.log1p(tf.abs(state)) + tf.math.erfc(row), tf.math.asinh(state)

        return keras.ops.scan(step, x[0], x, length=None)[1]

    check(call, tmp_path, (4,))


def test_counting(tmp_path: Path) -> None:
    import tensorflow as tf
    from keras import ops

    def call(x: Any) -> list[Any]:
        rows = x[:, 0]
        whole = ops.cast(ops.floor(rows * 3.0 + 3.0), "int32")
        return [
            ops.digitize(x, [-0.5, 0.0, 0.25]),
            ops.bincount(whole, minlength=6),
            ops.bincount(whole, weights=rows, minlength=6),
            tf.searchsorted(ops.sort(rows), x[:, 1]),
            tf.searchsorted(ops.sort(rows), x[:, 1], side="right"),
            tf.math.in_top_k(ops.argmax(x[:, 2], axis=1), rows, 3),
            tf.math.cumprod(x, axis=2),
            tf.math.cumprod(x, axis=-1, exclusive=True, reverse=True),
            tf.nn.sparse_softmax_cross_entropy_with_logits(whole[:, 0], rows),
        ]

    check(call, tmp_path, (5, 8))


def test_bits(tmp_path: Path) -> None:
    import tensorflow as tf

    def call(x: Any) -> list[Any]:
        a, b = (tf.cast(tf.round(each), tf.int32) for each in (x * 2e9, x[:, ::-1] * 9.0))
        logical = [getattr(tf.bitwise, f"bitwise_{name}")(a, b) for name in ("and", "or", "xor")]
        return [*logical, tf.bitwise.invert(a), tf.bitwise.left_shift(b, tf.abs(b))]

    check(call, tmp_path, (6,))


def test_matrices(tmp_path: Path) -> None:
    import tensorflow as tf

    def call(x: Any) -> list[Any]:
        square = x[:, :4] + 3.0 * tf.eye(4)[::-1]
        positive = tf.matmul(square, square, transpose_b=True) + tf.eye(4)
        lower = tf.linalg.cholesky(positive)
        return [
            tf.linalg.inv(square),
            tf.linalg.solve(square, x[:, 4:5, :2] + x[:, :4, :2]),
            tf.linalg.solve(square, x[:, :4, :2], adjoint=True),
            tf.linalg.det(square) * 0.01,
            *tf.linalg.slogdet(square),
            lower,
            tf.linalg.triangular_solve(lower, x[:, :4, :2]),
            tf.linalg.triangular_solve(lower, x[:, :4, :2], adjoint=True),
            tf.linalg.diag_part(x),
            tf.linalg.diag_part(x, k=1),
            tf.linalg.cross(x[..., :3], x[..., 1:]),
        ]

    check(call, tmp_path, (5, 4), tolerance=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pooling_over_three_axes(padding: str, tmp_path: Path) -> None:
    import keras

    layers = [
        keras.layers.MaxPooling3D(2, padding=padding),
        keras.layers.MaxPooling3D((3, 2, 1), (2, 1, 2), padding=padding),
        keras.layers.AveragePooling3D((3, 2, 3), (1, 2, 2), padding=padding),
    ]
    check(lambda x: [layer(x) for layer in layers], tmp_path, (5, 6, 7, 2))


def test_windows_and_colours(tmp_path: Path) -> None:
    import tensorflow as tf

    def call(x: Any) -> list[Any]:
        window, step, rate = [1, 3, 2, 1], [1, 2, 1, 1], [1, 1, 2, 1]
        found = [tf.image.extract_patches(x, window, step, rate, padding) for padding in ("SAME", "VALID")]
        colours = tf.abs(x[..., :3])
        return [*found, tf.image.rgb_to_hsv(colours), tf.image.hsv_to_rgb(colours)]

    check(call, tmp_path, (7, 8, 4))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_dilated_and_grouped_convolutions(padding: str, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(3)
    deep = [
        keras.layers.Conv3D(4, (2, 3, 2), padding=padding, dilation_rate=(2, 1, 2)),
        keras.layers.Conv3D(4, 2, padding=padding, groups=2),
    ]
    flat = [
        keras.layers.Conv2DTranspose(3, 3, dilation_rate=2, padding=padding),
        keras.layers.Conv2DTranspose(3, (3, 2), strides=(3, 1), padding=padding),
    ]

    def call(x: Any) -> list[Any]:
        return [*(layer(x) for layer in deep), *(layer(x[:, 0]) for layer in flat)]

    for layer in deep:
        layer.build((None, 6, 7, 6, 4))
    for layer in flat:
        layer.build((None, 7, 6, 4))
    check(call, tmp_path, (6, 7, 6, 4))


@pytest.mark.parametrize(
    ("padding", "stride", "added"),
    [("same", 2, 1), ("same", 3, 2), ("valid", 2, 1), ("valid", 3, 2), ("valid", 3, 0), ("valid", (2, 3), (0, 2))],
)
def test_output_padding(padding: str, stride: Any, added: Any, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2DTranspose(3, size, stride, padding, added) for size in (3, 4)]
    for layer in layers:
        layer.build((None, 5, 6, 4))
    deep = keras.layers.Conv3DTranspose(3, 3, 2, padding, output_padding=1)
    deep.build((None, 5, 6, 1, 4))
    check(lambda x: [*(layer(x) for layer in layers), deep(x[:, :, :, None])], tmp_path, (5, 6, 4))


def test_transforms(tmp_path: Path) -> None:
    from keras import ops

    def call(x: Any) -> list[Any]:
        y = x[:, ::-1]
        found = [
            *ops.fft((x, y)),
            *ops.fft2((x, y)),
            *ops.ifft2((x, y)),
            *ops.rfft(x),
            *ops.rfft(x, 7),
            *ops.rfft(x, 12),
        ]
        spectrum = ops.stft(ops.reshape(x, (-1, 40)), 8, 4, 10)
        return [*found, ops.irfft((x, y)), ops.irfft((x, y), 9), *spectrum, ops.istft(spectrum, 8, 4, 10)]

    check(call, tmp_path, (5, 8), tolerance=2e-5)


def test_quantiles(tmp_path: Path) -> None:
    from keras import ops

    methods = ("linear", "lower", "higher", "nearest", "midpoint")

    def call(x: Any) -> list[Any]:
        found = [ops.swapaxes(ops.quantile(x, [0.1, 0.75], axis=2, method=method), 0, 1) for method in methods]
        broken = ops.where(x > 0.9, float("nan") * x, x)
        whole = [ops.median(broken, axis=(1, 2)), ops.median(x, axis=(-1, 1), keepdims=True)]
        return [*found, *whole, ops.percentile(x, 30, axis=1)]

    check(call, tmp_path, (5, 8))


def test_updated_slice(tmp_path: Path) -> None:
    from keras import ops

    def call(x: Any) -> Any:
        start = ops.cast(ops.floor(ops.abs(x[0, 0, :2]) * 7.0), "int32")
        return ops.slice_update(x[0] * 1.0, start, x[0, :3, :4] + 5.0)[None] + 0.0 * x

    check(call, tmp_path, (5, 8))


def test_sparse_results(tmp_path: Path) -> None:
    import tensorflow as tf
    from keras import ops

    def call(x: Any) -> list[Any]:
        whole = ops.cast(ops.floor(x[0, :, :1] * 3.0 + 3.0), "int32")
        sums = tf.scatter_nd(whole, x[0, :, 0], [7])
        labels, scores = ops.ctc_decode(x, ops.full_like(ops.cast(x[:, 0, 0], "int32"), 4), mask_index=7)
        return [sums + 0.0 * x[:, 0, :7], labels[0] + 0, scores, ops.cross(x[..., :3], x[:, :1, 4:7])]

    check(call, tmp_path, (5, 8))


@pytest.mark.parametrize("mode", ["constant", "nearest", "reflect", "wrap"])
def test_projections(mode: str, tmp_path: Path) -> None:
    from keras import ops

    def call(x: Any) -> list[Any]:
        moved = ops.concatenate([x[:, 0, :3, 0] * 0.3 + ops.array([0.8, 0.1, -1.3]), x[:, 1, :5, 0] * 0.01], axis=1)
        moved = moved + ops.array([0.0, 0.0, 0.0, 0.2, 1.1, 3.1, 0.0, 0.0])
        kinds = ("bilinear", "nearest") if mode == "constant" else ("bilinear",)
        return [ops.image.affine_transform(x, moved, kind, mode, 0.3) for kind in kinds]

    check(call, tmp_path, (6, 7, 2), tolerance=2e-5)
