"""A call of every function of `keras.ops` and `keras.activations` that a layer can make; for `coverage.py`.

`CASES` and `ACTIVATIONS` have a function of `Values` for each name, which takes values of its domain; `LEFT_OUT` and
`NOT_CALLED` say why a name has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops


class Values:
    """Tensors by one letter, for a batch of any size, made of two inputs of shape (6, 8) and (8, 8, 4) a sample."""

    def __init__(self, given: Any, image: Any) -> None:
        self.given, self.image = given, image

    @cached_property
    def x(self) -> Any:
        """Numbers of both signs."""
        return self.given * 4.0 - 2.0

    @cached_property
    def y(self) -> Any:
        """Other numbers of both signs."""
        return ops.flip(self.x, axis=-1) * 1.3 + 0.1

    @cached_property
    def p(self) -> Any:
        """Positive numbers."""
        return ops.abs(self.x) + 0.5

    @cached_property
    def q(self) -> Any:
        """Other positive numbers."""
        return ops.abs(self.y) + 0.7

    @cached_property
    def u(self) -> Any:
        """Numbers between -1 and 1."""
        return ops.tanh(self.x) * 0.9

    @cached_property
    def i(self) -> Any:
        """Integers of both signs."""
        return ops.cast(ops.floor(self.x * 7.0), "int32")

    @cached_property
    def j(self) -> Any:
        """Other integers of both signs, none of them zero."""
        return ops.flip(self.i, axis=-1) * 2 + 1

    @cached_property
    def n(self) -> Any:
        """Natural numbers below 5."""
        return ops.mod(ops.abs(self.i), 5)

    @cached_property
    def b(self) -> Any:
        """Truth values."""
        return self.x > 0.3

    @cached_property
    def c(self) -> Any:
        """Other truth values."""
        return self.y > 0.2

    @cached_property
    def m(self) -> Any:
        """Square, regular matrices."""
        return self.x[:, :, :6] + 5.0 * ops.eye(6)

    @cached_property
    def s(self) -> Any:
        """Symmetric matrices with positive eigenvalues."""
        matrix = self.x[:, :, :6]
        return ops.matmul(matrix, ops.swapaxes(matrix, 1, 2)) + 2.0 * ops.eye(6)

    @cached_property
    def t(self) -> Any:
        """Lower triangular, regular matrices."""
        return ops.tril(self.x[:, :, :6]) + 5.0 * ops.eye(6)

    @cached_property
    def v(self) -> Any:
        """A vector of the first sample."""
        return self.x[0, 0]

    @cached_property
    def w(self) -> Any:
        """Another vector of the first sample."""
        return self.y[0, 1]

    @cached_property
    def f(self) -> Any:
        """Images of four channels."""
        return self.image

    @cached_property
    def g(self) -> Any:
        """Images of three channels, between 0 and 1."""
        return self.image[..., :3]

    @cached_property
    def h(self) -> Any:
        """Real andinary parts."""
        return self.x, self.y

    @cached_property
    def one(self) -> Any:
        """One for each sample, of shape (1,)."""
        return ops.ones_like(self.given[:, 0, :1])


Case = Callable[[Values], Any]


def constant(*shape: int) -> Any:
    """A seeded array of `shape`."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _call(name: str, given: Callable[[Values], tuple[Any, ...]], arguments: dict[str, Any], v: Values) -> Any:
    return attrgetter(name)(ops)(*given(v), **arguments)


def each(names: str, given: Callable[[Values], tuple[Any, ...]], **arguments: Any) -> dict[str, Case]:
    """A case for each of `names`, which calls it with what `given` returns."""
    return {name: partial(_call, name, given, arguments) for name in names.split()}


CASES: dict[str, Case] = {
    **each(
        "abs absolute angle arctan arcsinh array cbrt ceil celu conj conjugate copy cos cosh deg2rad elu erf erfc exp "
        "exp2 expm1 fabs floor gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh i0 "
        "leaky_relu log_sigmoid log_softmax negative rad2deg real relu relu6 "
        "round selu sigmoid sign signbit silu sin sinc sinh soft_shrink softmax softplus softsign sort sparse_plus "
        "sparse_sigmoid sparsemax square squareplus stop_gradient swish tanh tanh_shrink trunc convert_to_tensor "
        "argsort diff normalize trapezoid tril triu layer_normalization rms_normalization",
        lambda v: (v.x,),
    ),
    **each(
        "amax amin argmax argmin average cumprod cumsum glu logsumexp max mean median min nanargmax "
        "nanargmin nancumprod nancumsum nanmax nanmean nanmin nanprod nanstd nansum nanvar norm "
        "prod ptp std sum var",
        lambda v: (v.x,),
        axis=-1,
    ),
    **each("all any", lambda v: (v.b,), axis=-1),
    **each(
        "add arctan2 cdist divide divide_no_nan fmax fmin floor_divide fmod greater greater_equal heaviside "
        "hypot less less_equal logaddexp logaddexp2 maximum minimum mod multiply subtract "
        "true_divide",
        lambda v: (v.x, v.y),
    ),
    **each("log log10 log1p log2 sqrt rsqrt reciprocal", lambda v: (v.p,)),
    **each("arccos arcsin arctanh erfinv tan", lambda v: (v.u,)),
    **each("bitwise_and bitwise_or bitwise_xor gcd lcm", lambda v: (v.i, v.j)),
    **each("bitwise_left_shift bitwise_right_shift left_shift right_shift", lambda v: (v.i, v.n)),
    **each("bitwise_invert bitwise_not", lambda v: (v.i,)),
    **each("logical_and logical_or logical_xor", lambda v: (v.b, v.c)),
    **each("det inv slogdet qr svd pinv", lambda v: (v.m,)),
    **each("cholesky cholesky_inverse eigh logdet", lambda v: (v.s,)),
    **each("percentile", lambda v: (v.x, 40), axis=-1),
    **each("quantile", lambda v: (v.x, 0.4), axis=-1),
    **each("nanmedian", lambda v: (v.x[0],)),
    **each("nanpercentile", lambda v: (v.x[0], 40)),
    **each("nanquantile", lambda v: (v.x[0], 0.4)),
    **each(
        "segment_max segment_min segment_prod segment_sum", lambda v: (v.x[0, :, 0], ops.array([0, 2, 1, 1, 0, 2]), 3)
    ),
    **each("trace diagonal", lambda v: (v.m,), axis1=1, axis2=2),
}
CASES |= {
    "adaptive_average_pool": lambda v: ops.adaptive_average_pool(v.f, 3),
    "adaptive_max_pool": lambda v: ops.adaptive_max_pool(v.f, 3),
    "allclose": lambda v: ops.where(ops.allclose(v.x, v.x * 1.0), v.x, v.y),
    "arange": lambda v: v.x * ops.arange(8, dtype="float32"),
    "arccosh": lambda v: ops.arccosh(v.p + 1.0),
    "argpartition": lambda v: ops.sort(ops.argpartition(v.x, 3)[..., :4]),
    "associative_scan": lambda v: ops.associative_scan(lambda a, b: a + b, v.x, axis=1),
    "average_pool": lambda v: ops.average_pool(v.f, 3, 2, "same"),
    "batch_normalization": lambda v: ops.batch_normalization(v.f, constant(4), constant(4) ** 2 + 0.5, -1),
    "binary_crossentropy": lambda v: ops.binary_crossentropy(ops.cast(v.b, "float32"), ops.sigmoid(v.x)),
    "bincount": lambda v: ops.bincount(v.n[:, 0], minlength=5),
    "broadcast_to": lambda v: ops.broadcast_to(v.x[:, :, :1], ops.shape(v.x)),
    "cast": lambda v: ops.cast(v.x * 9, "int32"),
    "categorical_crossentropy": lambda v: ops.categorical_crossentropy(ops.softmax(v.y), ops.softmax(v.x)),
    "clip": lambda v: ops.clip(v.x, 0.2, 0.6),
    "concatenate": lambda v: ops.concatenate([v.x, v.y], axis=1),
    "cond": lambda v: ops.cond(ops.sum(v.x) > 0, lambda: v.x, lambda: v.y),
    "conv": lambda v: ops.conv(v.f, constant(3, 3, 4, 2), padding="same"),
    "conv_transpose": lambda v: ops.conv_transpose(v.f, constant(3, 3, 2, 4), 2, "same"),
    "corrcoef": lambda v: ops.corrcoef(v.x[0]),
    "correlate": lambda v: ops.correlate(v.v, v.w[:3]),
    "ctc_decode": lambda v: ops.ctc_decode(ops.softmax(v.x * 4), ops.zeros_like(v.n[:, 0, 0]) + 6),
    "ctc_loss": lambda v: ops.ctc_loss(
        v.n[:, 0, :2] + 1, v.x, ops.zeros_like(v.n[:, 0, 0]) + 2, ops.zeros_like(v.n[:, 0, 0]) + 6
    ),
    "depth_to_space": lambda v: ops.depth_to_space(v.f, 2),
    "depthwise_conv": lambda v: ops.depthwise_conv(v.f, constant(3, 3, 4, 2)),
    "diag": lambda v: ops.diag(v.v),
    "diagflat": lambda v: ops.diagflat(v.v),
    "digitize": lambda v: ops.digitize(v.x, [-0.5, 0.1, 0.4, 0.8]),
    "dot": lambda v: ops.dot(v.x, constant(8, 3)),
    "dot_product_attention": lambda v: ops.dot_product_attention(v.f, v.f * 0.5, v.f + 1.0, is_causal=True),
    "dsplit": lambda v: ops.dsplit(v.x, 2),
    "dstack": lambda v: ops.dstack([v.x, v.y]),
    "eig": lambda v: ops.real(ops.sum(ops.eig(v.s)[0], axis=-1)),
    "einsum": lambda v: ops.einsum("bij,bkj->bik", v.x, v.y),
    "empty": lambda v: ops.empty((6, 8)) * 0.0 + v.x,
    "empty_like": lambda v: ops.empty_like(v.x) * 0.0 + v.x,
    "expand_dims": lambda v: ops.expand_dims(v.x, 1),
    "extract_sequences": lambda v: ops.extract_sequences(v.x, 4, 2),
    "eye": lambda v: ops.matmul(v.m, ops.eye(6, k=1)),
    "fft": lambda v: ops.fft(v.h),
    "fft2": lambda v: ops.fft2(v.h),
    "ifft2": lambda v: ops.ifft2(v.h),
    "rfft": lambda v: ops.rfft(v.x),
    "irfft": lambda v: ops.irfft(v.h),
    "stft": lambda v: ops.stft(ops.reshape(v.f, (-1, 256)), 32, 16, 32),
    "istft": lambda v: ops.istft(ops.stft(ops.reshape(v.f, (-1, 256)), 32, 16, 32), 32, 16, 32),
    "fold": lambda v: ops.fold(ops.transpose(ops.reshape(v.f, (-1, 16, 16)), (0, 2, 1)), (8, 8), 2, stride=2),
    "unfold": lambda v: ops.unfold(ops.transpose(v.f, (0, 3, 1, 2)), 2, stride=2),
    "fori_loop": lambda v: ops.fori_loop(0, 3, lambda i, y: y * 1.1 + 0.1, v.x),
    "full": lambda v: v.x * ops.full((8,), 3.0),
    "full_like": lambda v: v.x * ops.full_like(v.x, 3.0),
    "geomspace": lambda v: v.x * ops.geomspace(1.0, 100.0, 8),
    "get_item": lambda v: ops.get_item(v.x, (slice(None), 2, slice(None, None, 2))),
    "histogram": lambda v: ops.histogram(v.v, 5, (-1.0, 2.0)),
    "hsplit": lambda v: ops.hsplit(v.x, 2),
    "hstack": lambda v: ops.hstack([v.x, v.y]),
    "identity": lambda v: ops.matmul(v.m, ops.identity(6)),
    "in_top_k": lambda v: ops.in_top_k(v.n[:, 0, 0], v.x[:, 0], 3),
    "inner": lambda v: ops.inner(v.x, constant(8)),
    "isin": lambda v: ops.isin(v.i, ops.array([1, 2, 5])),
    "kaiser": lambda v: v.x * ops.kaiser(8, 4.0),
    "kron": lambda v: ops.kron(v.x[0], v.y[0, :2, :2]),
    "ldexp": lambda v: ops.ldexp(v.x, v.n),
    "linspace": lambda v: v.x * ops.linspace(0.5, 2.0, 8),
    "lu_factor": lambda v: ops.lu_factor(v.m[0]),
    "logical_not": lambda v: ops.logical_not(v.b),
    "logspace": lambda v: v.x * ops.logspace(0.0, 1.0, 8),
    "lstsq": lambda v: ops.lstsq(v.m[0], v.x[0]),
    "map": lambda v: ops.map(lambda row: ops.tanh(row), v.x),
    "matmul": lambda v: ops.matmul(v.x, ops.swapaxes(v.y, 1, 2)),
    "max_pool": lambda v: ops.max_pool(v.f, 3, 2, "same"),
    "meshgrid": lambda v: ops.meshgrid(v.v, v.w),
    "moments": lambda v: ops.moments(v.x, (1,)),
    "moveaxis": lambda v: ops.moveaxis(v.f, 1, 3),
    "multi_hot": lambda v: ops.multi_hot(v.n, 5),
    "nextafter": lambda v: ops.nextafter(v.x, v.y),
    "nonzero": lambda v: ops.nonzero(v.b),
    "one_hot": lambda v: ops.one_hot(v.n, 5),
    "ones": lambda v: v.x * ops.ones((8,)),
    "ones_like": lambda v: v.x * ops.ones_like(v.x),
    "outer": lambda v: ops.outer(v.v, v.w),
    "pad": lambda v: ops.pad(v.x, ((0, 0), (1, 2), (0, 1))),
    "polar": lambda v: ops.real(ops.polar(v.p, v.x)),
    "power": lambda v: ops.power(v.p, v.y),
    "psnr": lambda v: ops.psnr(v.x, v.y, 2.0),
    "rearrange": lambda v: ops.rearrange(v.f, "b h w c -> b (h w) c"),
    "repeat": lambda v: ops.repeat(v.x, 2, axis=1),
    "reshape": lambda v: ops.reshape(v.x, (-1, 48)),
    "roll": lambda v: ops.roll(v.x, 3, axis=1),
    "saturate_cast": lambda v: ops.saturate_cast(v.x * 300, "uint8"),
    "scan": lambda v: ops.scan(lambda total, row: (total + row, total * 0.5), v.v, v.x[0]),
    "scatter": lambda v: ops.scatter(ops.expand_dims(ops.arange(6), -1), v.x[0], (9, 8)),
    "scatter_update": lambda v: ops.scatter_update(v.x[0], ops.array([[1, 2], [3, 4]]), v.v[:2]),
    "searchsorted": lambda v: ops.searchsorted(ops.sort(v.v), v.w),
    "select": lambda v: ops.select([v.b, v.c], [v.x, v.y], 0.0),
    "separable_conv": lambda v: ops.separable_conv(v.f, constant(3, 3, 4, 1), constant(1, 1, 4, 3)),
    "shape": lambda v: v.x * ops.cast(ops.shape(v.x)[1], "float32"),
    "size": lambda v: v.x * ops.cast(ops.size(v.x[0]), "float32"),
    "slice": lambda v: ops.slice(v.x[0], (1, 2), (3, 4)),
    "slice_update": lambda v: ops.slice_update(v.x[0], (1, 2), v.y[0, :2, :2]),
    "solve": lambda v: ops.solve(v.m, v.x),
    "solve_triangular": lambda v: ops.solve_triangular(v.t, v.x, lower=True),
    "space_to_depth": lambda v: ops.space_to_depth(v.f, 2),
    "sparse_categorical_crossentropy": lambda v: ops.sparse_categorical_crossentropy(v.n[:, :, 0], ops.softmax(v.x)),
    "split": lambda v: ops.split(v.x, 2, axis=1),
    "stack": lambda v: ops.stack([v.x, v.y], axis=1),
    "swapaxes": lambda v: ops.swapaxes(v.x, 1, 2),
    "switch": lambda v: ops.switch(ops.cast(ops.sum(v.x) > 0, "int32"), [lambda a: a, lambda a: a * 2], v.x),
    "take": lambda v: ops.take(v.x, [0, 3, 5], axis=1),
    "take_along_axis": lambda v: ops.take_along_axis(v.x, v.n, axis=-1),
    "tensordot": lambda v: ops.tensordot(v.x, constant(6, 8, 3), axes=[[1, 2], [0, 1]]),
    "threshold": lambda v: ops.threshold(v.x, 0.3, -1.0),
    "tile": lambda v: ops.tile(v.x, (1, 2, 1)),
    "top_k": lambda v: ops.top_k(v.x, 3),
    "transpose": lambda v: ops.transpose(v.x, (0, 2, 1)),
    "tri": lambda v: v.m * ops.tri(6),
    "unique": lambda v: ops.unique(v.n[0, 0], size=5, fill_value=0),
    "unravel_index": lambda v: ops.unravel_index(v.n, (3, 4)),
    "unstack": lambda v: ops.unstack(v.x, axis=1),
    "vander": lambda v: ops.vander(v.v, 3),
    "vdot": lambda v: ops.vdot(v.v, v.w) * v.x,
    "vectorize": lambda v: ops.vectorize(lambda a: a * 2.0 + 1.0)(v.x),
    "vectorized_map": lambda v: ops.vectorized_map(lambda row: ops.softmax(row), v.x),
    "view": lambda v: ops.view(v.x, "int32"),
    "view_as_complex": lambda v: ops.real(ops.view_as_complex(ops.reshape(v.x, (-1, 6, 4, 2)))),
    "view_as_real": lambda v: ops.view_as_real(ops.view_as_complex(ops.reshape(v.x, (-1, 6, 4, 2)))),
    "vsplit": lambda v: ops.vsplit(v.f[0], 2),
    "vstack": lambda v: ops.vstack([v.x[0], v.y[0]]),
    "where": lambda v: ops.where(v.b, v.x, v.y),
    "while_loop": lambda v: ops.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.1), (0, v.x))[1],
    "zeros": lambda v: v.x + ops.zeros((8,)),
    "zeros_like": lambda v: v.x + ops.zeros_like(v.x),
}
CASES |= {
    **each("equal not_equal", lambda v: (v.n, 2)),
    **each("count_nonzero", lambda v: (v.n,), axis=-1),
    **each("isnan isfinite nan_to_num", lambda v: (ops.where(v.b, float("nan"), v.x),)),
    **each("isinf isposinf", lambda v: (ops.where(v.b, float("inf"), v.x),)),
    "imag": lambda v: v.x + ops.imag(v.y),
    "isclose": lambda v: ops.isclose(v.x, ops.round(v.x), atol=0.2),
    "isneginf": lambda v: ops.isneginf(ops.where(v.b, -float("inf"), v.x)),
    "isreal": lambda v: ops.where(ops.isreal(v.x), v.x, v.y),
    "matrix_rank": lambda v: v.x * ops.cast(ops.matrix_rank(v.s)[:, None, None], "float32"),
}
CASES |= {
    "append": lambda v: ops.append(v.x, v.y, axis=1),
    "array_split": lambda v: ops.array_split(v.x, 3, axis=-1),
    "bartlett": lambda v: v.x * ops.bartlett(8),
    "blackman": lambda v: v.x * ops.blackman(8),
    "cross": lambda v: ops.cross(v.x[..., :3], v.y[..., :3]),
    "flip": lambda v: ops.flip(v.x, axis=1),
    "fliplr": lambda v: ops.fliplr(v.x),
    "flipud": lambda v: ops.flipud(v.x[0]),
    "hamming": lambda v: v.x * ops.hamming(8),
    "hanning": lambda v: v.x * ops.hanning(8),
    "ravel": lambda v: ops.ravel(v.x[0]),
    "rot90": lambda v: ops.rot90(v.f, axes=(1, 2)),
    "squeeze": lambda v: ops.squeeze(v.x[:, :1], 1),
}


def _turn(v: Values) -> Any:
    """The eight numbers of an affine transform, for each sample."""
    return v.one * ops.array([[0.9, 0.1, 0.4, -0.1, 1.1, 0.3, 0.0, 0.0]])


def _corners(v: Values, shift: float) -> Any:
    """The four corners of a quadrilateral, for each sample."""
    corners = ops.array([[[0.0, 0.0], [7.0, shift], [shift, 7.0], [7.0, 7.0 - shift]]])
    return v.one[:, :, None] * corners


CASES |= {
    "image.affine_transform": lambda v: ops.image.affine_transform(v.f, _turn(v)),
    "image.crop_images": lambda v: ops.image.crop_images(v.f, 1, 2, target_height=5, target_width=4),
    "image.extract_patches": lambda v: ops.image.extract_patches(v.f, 3),
    "image.extract_patches_3d": lambda v: ops.image.extract_patches_3d(ops.reshape(v.f, (-1, 4, 4, 4, 4)), 2),
    "image.map_coordinates": lambda v: ops.image.map_coordinates(v.f[0, :, :, 0], ops.stack([v.p[0], v.q[0]]), 1),
    "image.pad_images": lambda v: ops.image.pad_images(v.f, 1, 2, target_height=12, target_width=13),
    "image.perspective_transform": lambda v: ops.image.perspective_transform(v.f, _corners(v, 0.0), _corners(v, 0.8)),
    "image.resize": lambda v: ops.image.resize(v.f, (5, 11)),
    "image.scale_and_translate": lambda v: ops.image.scale_and_translate(
        v.f, (ops.shape(v.f)[0], 5, 11, 4), ops.array([0.6, 1.4]), ops.array([0.3, 0.2]), (1, 2), "linear"
    ),
    "image.ssim": lambda v: ops.image.ssim(v.g, v.g * 0.8 + 0.1, filter_size=5),
    **each(
        "image.gaussian_blur image.hsv_to_rgb image.rgb_to_hsv image.rgb_to_grayscale image.sobel_edges",
        lambda v: (v.g,),
    ),
}
for _kind in ("nearest", "bicubic", "lanczos3", "lanczos5"):
    CASES[f"image.resize: {_kind}"] = lambda v, kind=_kind: ops.image.resize(v.f, (5, 11), interpolation=kind)
CASES["image.resize: antialias"] = lambda v: ops.image.resize(v.f, (5, 11), antialias=True)

LEFT_OUT = {
    "convert_to_numpy": "leaves the graph",
    "custom_gradient": "changes training only",
    "dtype": "returns text",
    "image.elastic_transform": "is random",
    "is_tensor": "returns a Python value",
    "jvp": "derivatives are for training",
    "ndim": "returns a Python value",
}

_ACTIVATIONS = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear "
    "log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus "
    "sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink"
)
ACTIVATIONS: dict[str, Case] = {}
for _name in _ACTIVATIONS.split():
    ACTIVATIONS[_name] = lambda v, name=_name: getattr(keras.activations, name)(v.x)
ACTIVATIONS["threshold"] = lambda v: keras.activations.threshold(v.x, 0.3, -1.0)

NOT_CALLED = {
    "deserialize": "makes a function of a configuration",
    "get": "makes a function of a name",
    "serialize": "makes a configuration of a function",
}

KINDS: dict[str, Mapping[str, Case]] = {"ops": CASES, "activations": ACTIVATIONS}


def names() -> list[str]:
    """Every public function of `keras.ops`, those of its modules that it does not have itself with their module."""
    found = [name for name in dir(ops) if not name.startswith("_") and callable(getattr(ops, name))]
    for name in dir(ops):
        module = getattr(ops, name)
        if isinstance(module, ModuleType) and not name.startswith("_"):
            own = [each for each in dir(module) if not each.startswith("_") and callable(getattr(module, each))]
            found += [f"{name}.{each}" for each in own if getattr(ops, each, None) is not getattr(module, each)]
    return found


def activations() -> list[str]:
    """Every public function of `keras.activations`."""
    every = vars(keras.activations)
    return sorted(name for name in every if not name.startswith("_") and isinstance(every[name], FunctionType))


def output_name(case: str) -> str:
    """The name of the output of `case`, or what the names of its outputs begin with."""
    return "op_" + re.sub(r"\W+", "_", case)


class Calls(keras.layers.Layer):
    """The results of cases, as a dict by name; a case with several results has `name_0`, `name_1`, and so on.

    Of `one` sample, a result without the batch as its first axis gets one.
    """

    def __init__(self, kind: str, cases: tuple[str, ...], one: bool) -> None:
        super().__init__(name="calls")
        self.kind, self.cases, self.one = kind, cases, one

    def call(self, x: Any, image: Any) -> dict[str, Any]:
        given, results = Values(x, image), {}
        for case in self.cases:
            flat = [ops.convert_to_tensor(found) for found in keras.tree.flatten(KINDS[self.kind][case](given))]
            for index, result in enumerate(flat):
                key = output_name(case) + ("" if len(flat) == 1 else f"_{index}")
                missing = self.one and (len(result.shape) == 0 or result.shape[0] != 1)
                results[key] = result[None] if missing else result
        return results


ONE = ("cond", "switch", "vdot")
"""What is decided or computed for the whole batch"""


def of_one_sample(kind: str, case: str) -> bool:
    """Whether `case` calls its function for one sample alone: it takes no batch, or none of any size."""
    if case in ONE:
        return True
    try:
        return any(output.shape[0] is not None for output in model(kind, (case,), one=False).outputs)
    except Exception:  # noqa: BLE001  Keras raises what it likes; it may be able to call it for one sample
        return True


def model(kind: str, cases: tuple[str, ...], one: bool) -> keras.Model:
    """A model that calls `cases`, for `one` sample or for a batch of any size."""
    batch = 1 if one else None
    x = keras.Input(batch_shape=(batch, 6, 8), name="x")
    image = keras.Input(batch_shape=(batch, 8, 8, 4), name="image")
    return keras.Model([x, image], Calls(kind, cases, one)(x, image), name="ops")
