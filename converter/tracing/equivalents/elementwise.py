"""Functions of one number: logarithms and exponentials near zero, inverse and hyperbolic functions, error functions.

Each is computed so that its relative error stays near the rounding of its type, where the textbook identity loses
digits. All of them work on tensors of any rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule


def log1p(node: NodeDef, x: Tensor) -> Tensor:
    """log(1 + x): with u = 1 + x rounded, log(u) * x / (u - 1) (Kahan); log(u) where x is the larger part."""
    import tensorflow as tf

    u = 1.0 + x
    lost = tf.equal(u, 1.0)
    below = tf.where(lost, tf.ones_like(x), u - 1.0)
    corrected = tf.math.log(u) * (x / below)
    return tf.where(lost, x, tf.where(tf.equal(u, x), tf.math.log(u), corrected))


def expm1(node: NodeDef, x: Tensor) -> Tensor:
    """exp(x) - 1: 2 t / (1 - t) with t = tanh(x / 2) where |x| < 1, else the difference itself."""
    import tensorflow as tf

    small = tf.abs(x) < 1.0
    t = tf.tanh(tf.where(small, x, tf.zeros_like(x)) * 0.5)
    return tf.where(small, 2.0 * t / (1.0 - t), tf.exp(x) - 1.0)


def atan(node: NodeDef, x: Tensor) -> Tensor:
    """The angle of the point (1, x)."""
    import tensorflow as tf

    return tf.atan2(x, tf.ones_like(x))


def asin(node: NodeDef, x: Tensor) -> Tensor:
    """The angle whose sine is x; its cosine is sqrt((1 - x)(1 + x))."""
    import tensorflow as tf

    return tf.atan2(x, tf.sqrt((1.0 - x) * (1.0 + x)))


def acos(node: NodeDef, x: Tensor) -> Tensor:
    """Twice the angle of the half, whose tangent is sqrt((1 - x) / (1 + x))."""
    import tensorflow as tf

    return 2.0 * tf.atan2(tf.sqrt(1.0 - x), tf.sqrt(1.0 + x))


def tan(node: NodeDef, x: Tensor) -> Tensor:
    """sin(x) / cos(x)."""
    import tensorflow as tf

    return tf.sin(x) / tf.cos(x)


def sinh(node: NodeDef, x: Tensor) -> Tensor:
    """(e + e / (e + 1)) / 2 with e = exp(|x|) - 1 where |x| < 1, with exp(|x| / 2) squared above; and the sign of x."""
    import tensorflow as tf

    size = tf.abs(x)
    e = expm1(node, tf.minimum(size, 1.0))
    half = tf.exp(size * 0.5)
    large = (0.5 * half) * half - 0.5 / tf.maximum(half * half, 1.0)
    return tf.sign(x) * tf.where(size < 1.0, 0.5 * (e + e / (e + 1.0)), large)


def cosh(node: NodeDef, x: Tensor) -> Tensor:
    """(exp(|x|) + exp(-|x|)) / 2."""
    import tensorflow as tf

    half = tf.exp(tf.abs(x) * 0.5)
    return (0.5 * half) * half + 0.5 * tf.exp(-tf.abs(x))


def atanh(node: NodeDef, x: Tensor) -> Tensor:
    """log1p(2 |x| / (1 - |x|)) / 2, and the sign of x."""
    import tensorflow as tf

    size = tf.abs(x)
    return tf.sign(x) * 0.5 * log1p(node, 2.0 * size / (1.0 - size))


def asinh(node: NodeDef, x: Tensor) -> Tensor:
    """log1p(|x| + x^2 / (1 + sqrt(1 + x^2))), and the sign of x; log(2 |x|) where x^2 would overflow."""
    import tensorflow as tf

    size = tf.abs(x)
    near = tf.minimum(size, 1e6)
    square = near * near
    small = log1p(node, near + square / (1.0 + tf.sqrt(1.0 + square)))
    return tf.sign(x) * tf.where(size > 1e6, tf.math.log(size) + _LOG_2, small)


def acosh(node: NodeDef, x: Tensor) -> Tensor:
    """log1p(t + sqrt(2 t + t^2)) with t = x - 1; log(2 x) where t^2 would overflow."""
    import tensorflow as tf

    t = tf.minimum(x, 1e6) - 1.0
    small = log1p(node, t + tf.sqrt(t * (2.0 + t)))
    return tf.where(x > 1e6, tf.math.log(x) + _LOG_2, small)


_LOG_2 = 0.6931471805599453

_ERF = (
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
     -2.95459980854025e-03, -1.60960333262415e-02),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02),
)  # fmt: skip
"""erf(x) = x P(x^2) / Q(x^2) for |x| <= 4, as TensorFlow's compiler (XLA) approximates it in float32; highest first"""


def erf(node: NodeDef, x: Tensor) -> Tensor:
    """The error function, a quotient of polynomials; 1 in size from 4 on, as float32 rounds it."""
    import tensorflow as tf

    inside = tf.clip_by_value(x, -4.0, 4.0)
    square = inside * inside
    return inside * _polynomial(square, _ERF[0]) / _polynomial(square, _ERF[1])


def erfc(node: NodeDef, x: Tensor) -> Tensor:
    """1 - erf(x)."""
    import tensorflow as tf

    return 1.0 - tf.math.erf(x)


_ERFINV = (
    (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
     0.246640727, 1.50140941),
    (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
     1.00167406, 2.83297682),
)  # fmt: skip
"""M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2010): in w - 2.5 below w = 5, in sqrt(w) - 3
above, where w = -log((1 - x)(1 + x)); highest first"""


def erfinv(node: NodeDef, x: Tensor) -> Tensor:
    """The inverse of the error function; infinite at -1 and 1."""
    import tensorflow as tf

    w = -tf.math.log((1.0 - x) * (1.0 + x))
    near = _polynomial(tf.minimum(w, 5.0) - 2.5, _ERFINV[0])
    far = _polynomial(tf.sqrt(tf.clip_by_value(w, 5.0, 100.0)) - 3.0, _ERFINV[1])
    edge = tf.equal(tf.abs(x), 1.0)
    return x * tf.where(edge, float("inf") * tf.ones_like(x), tf.where(w < 5.0, near, far))


_BESSEL = (
    (0.0045813, 0.0360768, 0.2659732, 1.2067492, 3.0899424, 3.5156229, 1.0),
    (0.00392377, -0.01647633, 0.02635537, -0.02057706, 0.00916281, -0.00157565, 0.00225319, 0.01328592, 0.39894228),
)
"""M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 9.8.1 and 9.8.2, errors below 2e-7; highest first"""


def bessel_i0(node: NodeDef, x: Tensor) -> Tensor:
    """The modified Bessel function of order 0: a polynomial below 3.75, one times exp(|x|) / sqrt(|x|) above."""
    import tensorflow as tf

    size = tf.abs(x)
    near = _polynomial(tf.square(tf.minimum(size, 3.75) / 3.75), _BESSEL[0])
    outside = tf.maximum(size, 3.75)
    far = tf.exp(outside) / tf.sqrt(outside) * _polynomial(3.75 / outside, _BESSEL[1])
    return tf.where(size < 3.75, near, far)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The polynomial with these coefficients, the highest power first, by Horner's rule."""
    import tensorflow as tf

    result = tf.ones_like(x) * coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def same(node: NodeDef, x: Tensor) -> Tensor:
    """The input itself: what the operator checks stops no runtime."""
    return x


def _real(rule: Callable[[NodeDef, Tensor], Tensor]) -> Rule:
    """`rule` for real numbers; complex ones are declined."""

    def applied(node: NodeDef, x: Tensor) -> Tensor | None:
        return rule(node, x) if x.dtype.is_floating else None

    return applied


RULES: Mapping[str, Rule] = {
    name: _real(rule)
    for name, rule in {
        "Log1p": log1p,
        "Expm1": expm1,
        "Atan": atan,
        "Asin": asin,
        "Acos": acos,
        "Tan": tan,
        "Sinh": sinh,
        "Cosh": cosh,
        "Atanh": atanh,
        "Asinh": asinh,
        "Acosh": acosh,
        "Erf": erf,
        "Erfc": erfc,
        "Erfinv": erfinv,
        "BesselI0": bessel_i0,
        "CheckNumerics": same,
    }.items()
}
