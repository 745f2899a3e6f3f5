"""A call of every function of `keras.ops` that a layer can make, on values in its domain; for `coverage.py`.

`CASES` has a function of `Values` for each name; `LEFT_OUT` says why a name has none. A result that is the same for
every input is multiplied by one, so that a comparison means something.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

Values = SimpleNamespace
"""Tensors by one letter, for a batch of any size; see `values`"""

Case = Callable[[Values], Any]


def values(x: Any, image: Any) -> Values:
    """The tensors that cases use, from two inputs of shape (6, 8) and (8, 8, 4) for each sample.

    x, y: any number; p, q: positive; u: within (-1, 1); i, j: integers of both signs; n: small natural numbers; b, c:
    booleans; m: square matrices; s: symmetric and positive definite; t: triangular and regular; v: vectors of the
    batch's first sample; f: images; k: kernels made of a sample; h: halves, a pair of real and imaginary parts.
    """
    y = ops.flip(x, axis=-1) * 1.3 + 0.1
    matrix = x[:, :, :6]
    integers = ops.cast(ops.floor(x * 7), "int32")
    positive = ops.abs(x) + 0.5
    definite = ops.matmul(matrix, ops.swapaxes(matrix, 1, 2)) + 2.0 * ops.eye(6)
    return Values(
        x=x,
        y=y,
        p=positive,
        q=ops.abs(y) + 0.7,
        u=ops.tanh(x) * 0.9,
        i=integers,
        j=ops.flip(integers, axis=-1) * 2 + 1,
        n=ops.mod(ops.abs(integers), 5),
        b=x > 0.3,
        c=y > 0.2,
        m=matrix + 3.0 * ops.eye(6),
        s=definite,
        t=ops.tril(matrix) + 3.0 * ops.eye(6),
        v=x[0, 0],
        w=y[0, 1],
        f=image,
        h=(x, y),
    )


def kernel(v: Values, *shape: int) -> Any:
    """A kernel of `shape` made of the first image, so that it depends on the input."""
    size = 1
    for each in shape:
        size *= each
    flat = ops.tile(ops.reshape(v.f[0], (-1,)), size // 256 + 1)[:size]
    return ops.reshape(flat, shape) - 0.4


def _call(name: str, given: Callable[[Values], tuple[Any, ...]], arguments: dict[str, Any], v: Values) -> Any:
    return getattr(ops, name)(*given(v), **arguments)


def each(names: str, given: Callable[[Values], tuple[Any, ...]], **arguments: Any) -> dict[str, Case]:
    """A case for each of `names`, which calls it with what `given` returns."""
    return {name: partial(_call, name, given, arguments) for name in names.split()}


CASES: dict[str, Case] = {
    **each(
        "abs absolute angle arctan arcsinh array cbrt ceil celu conj conjugate copy cos cosh deg2rad elu erf erfc exp "
        "exp2 expm1 fabs floor gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh i0 imag isfinite isinf "
        "isnan isneginf isposinf isreal leaky_relu log_sigmoid log_softmax nan_to_num negative rad2deg real relu relu6 "
        "round selu sigmoid sign signbit silu sin sinc sinh soft_shrink softmax softplus softsign sort sparse_plus "
        "sparse_sigmoid sparsemax square squareplus stop_gradient swish tanh tanh_shrink trunc convert_to_tensor "
        "argsort diff normalize trapezoid tril triu layer_normalization rms_normalization",
        lambda v: (v.x,),
    ),
    **each(
        "amax amin argmax argmin average count_nonzero cumprod cumsum glu logsumexp max mean median min nanargmax "
        "nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar norm "
        "prod ptp std sum var",
        lambda v: (v.x,),
        axis=-1,
    ),
    **each("all any", lambda v: (v.b,), axis=-1),
    **each(
        "add arctan2 cdist divide divide_no_nan equal fmax fmin floor_divide fmod greater greater_equal heaviside "
        "hypot isclose less less_equal logaddexp logaddexp2 maximum minimum mod multiply not_equal subtract "
        "true_divide",
        lambda v: (v.x, v.y),
    ),
    **each("log log10 log1p log2 sqrt rsqrt reciprocal", lambda v: (v.p,)),
    **each("arccos arcsin arctanh erfinv tan", lambda v: (v.u,)),
    **each("bitwise_and bitwise_or bitwise_xor gcd lcm", lambda v: (v.i, v.j)),
    **each("bitwise_left_shift bitwise_right_shift left_shift right_shift", lambda v: (v.i, v.n)),
    **each("bitwise_invert bitwise_not", lambda v: (v.i,)),
    **each("logical_and logical_or logical_xor", lambda v: (v.b, v.c)),
    **each("det inv logdet slogdet qr svd pinv lu_factor", lambda v: (v.m,)),
    **each("cholesky cholesky_inverse eigh matrix_rank", lambda v: (v.s,)),
    **each("percentile nanpercentile", lambda v: (v.x, 40), axis=-1),
    **each("quantile nanquantile", lambda v: (v.x, 0.4), axis=-1),
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
    "batch_normalization": lambda v: ops.batch_normalization(
        v.f, ops.mean(v.f, (0, 1, 2)), ops.var(v.f, (0, 1, 2)), -1
    ),
    "binary_crossentropy": lambda v: ops.binary_crossentropy(ops.cast(v.b, "float32"), ops.sigmoid(v.x)),
    "bincount": lambda v: ops.bincount(v.n[:, 0], minlength=5),
    "broadcast_to": lambda v: ops.broadcast_to(v.x[:, :, :1], ops.shape(v.x)),
    "cast": lambda v: ops.cast(v.x * 9, "int32"),
    "categorical_crossentropy": lambda v: ops.categorical_crossentropy(ops.softmax(v.y), ops.softmax(v.x)),
    "clip": lambda v: ops.clip(v.x, 0.2, 0.6),
    "concatenate": lambda v: ops.concatenate([v.x, v.y], axis=1),
    "cond": lambda v: ops.cond(ops.sum(v.x) > 0, lambda: v.x, lambda: v.y),
    "conv": lambda v: ops.conv(v.f, kernel(v, 3, 3, 4, 2), padding="same"),
    "conv_transpose": lambda v: ops.conv_transpose(v.f, kernel(v, 3, 3, 2, 4), 2, "same"),
    "corrcoef": lambda v: ops.corrcoef(v.x[0]),
    "correlate": lambda v: ops.correlate(v.v, v.w[:3]),
    "ctc_decode": lambda v: ops.ctc_decode(ops.softmax(v.x * 4), ops.zeros_like(v.n[:, 0, 0]) + 6),
    "ctc_loss": lambda v: ops.ctc_loss(
        v.n[:, 0, :2] + 1, v.x, ops.zeros_like(v.n[:, 0, 0]) + 2, ops.zeros_like(v.n[:, 0, 0]) + 6
    ),
    "depth_to_space": lambda v: ops.depth_to_space(v.f, 2),
    "depthwise_conv": lambda v: ops.depthwise_conv(v.f, kernel(v, 3, 3, 4, 2)),
    "diag": lambda v: ops.diag(v.v),
    "diagflat": lambda v: ops.diagflat(v.v),
    "digitize": lambda v: ops.digitize(v.x, [-0.5, 0.1, 0.4, 0.8]),
    "dot": lambda v: ops.dot(v.x, v.y[0, 0]),
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
    "inner": lambda v: ops.inner(v.x, v.y[0]),
    "isin": lambda v: ops.isin(v.i, [1, 2, 5]),
    "kaiser": lambda v: v.x * ops.kaiser(8, 4.0),
    "kron": lambda v: ops.kron(v.x[0], v.y[0, :2, :2]),
    "ldexp": lambda v: ops.ldexp(v.x, v.n),
    "linspace": lambda v: v.x * ops.linspace(0.5, 2.0, 8),
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
    "scan": lambda v: ops.scan(lambda total, row: (total + row, total * 0.5), v.x[0] * 0.0, v.x),
    "scatter": lambda v: ops.scatter(ops.expand_dims(ops.arange(6), -1), v.x[0], (9, 8)),
    "scatter_update": lambda v: ops.scatter_update(v.x[0], ops.array([[1, 2], [3, 4]]), v.v[:2]),
    "searchsorted": lambda v: ops.searchsorted(ops.sort(v.v), v.w),
    "select": lambda v: ops.select([v.b, v.c], [v.x, v.y], 0.0),
    "separable_conv": lambda v: ops.separable_conv(v.f, kernel(v, 3, 3, 4, 1), kernel(v, 1, 1, 4, 3)),
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
    "tensordot": lambda v: ops.tensordot(v.x, v.y[0], axes=[[1, 2], [0, 1]]),
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

LEFT_OUT = {
    "convert_to_numpy": "leaves the graph",
    "custom_gradient": "changes training only",
    "dtype": "returns text",
    "is_tensor": "returns a Python value",
    "jvp": "derivatives are for training",
    "ndim": "returns a Python value",
}


def names() -> list[str]:
    """Every public function of `keras.ops`."""
    return [name for name in dir(ops) if not name.startswith("_") and callable(getattr(ops, name))]


class Calls(keras.layers.Layer):
    """The results of cases, as a dict by name; a case with several results has `name_0`, `name_1`, and so on."""

    def __init__(self, cases: tuple[str, ...]) -> None:
        super().__init__(name="calls")
        self.cases = cases

    def call(self, x: Any, image: Any) -> dict[str, Any]:
        given, results = values(x, image), {}
        for name in self.cases:
            flat = keras.tree.flatten(CASES[name](given))
            for index, each in enumerate(flat):
                key = name if len(flat) == 1 else f"{name}_{index}"
                results[f"op_{key}"] = self._for_each_sample(each, x)
        return results

    def _for_each_sample(self, result: Any, x: Any) -> Any:
        """`result` with the batch as its first axis: what has another one is given to every sample."""
        result = ops.convert_to_tensor(result)
        if len(result.shape) and result.shape[0] is None:
            return result
        kind = "int32" if "int" in str(result.dtype) or result.dtype == "bool" else result.dtype
        zeros = ops.cast(ops.zeros_like(x[:, 0, 0]), kind)
        return ops.reshape(zeros, (-1, *[1] * len(result.shape))) + ops.cast(result, kind)[None]


def model(cases: tuple[str, ...]) -> keras.Model:
    """A model that calls `cases`."""
    x, image = keras.Input((6, 8), name="x"), keras.Input((8, 8, 4), name="image")
    return keras.Model([x, image], Calls(cases)(x, image), name="ops")
