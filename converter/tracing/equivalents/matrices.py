"""Operators on matrices: small square ones are solved, inverted and factored row by row; products of integers."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.foreign import NodeDef, Tensor
from converter.tracing.lowering import Rule

LARGEST = 16
"""Rows above which a matrix is not unrolled: each row is a dozen operators"""


def _small(matrix: Tensor) -> int | None:
    """The number of rows, if it is known and small and the matrix is real and square."""
    rank = matrix.shape.rank
    if rank is None or rank < 2 or not matrix.dtype.is_floating:
        return None
    rows, columns = matrix.shape[-2:]
    return int(rows) if rows is not None and rows == columns and rows <= LARGEST else None


def _eliminated(matrix: Tensor, right: Tensor, size: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The solution of matrix x = right by Gauss and Jordan with the largest pivot of each column.

    Returns the solution, the sign of the row exchanges, and the pivots, each with the leading axes of `matrix`.
    """
    import tensorflow as tf

    rows = tf.concat([matrix, right], axis=-1)
    sign = tf.ones_like(matrix[..., 0, 0])
    pivots = []
    for k in range(size):
        column = tf.abs(rows[..., k:, k])
        chosen = k + tf.argmax(column, axis=-1, output_type=tf.int32)
        here, there = tf.one_hot(k, size, dtype=matrix.dtype), tf.one_hot(chosen, size, dtype=matrix.dtype)
        pivot_row = tf.reduce_sum(there[..., tf.newaxis] * rows, axis=-2, keepdims=True)
        old_row = rows[..., k : k + 1, :]
        moved = tf.where(there[..., tf.newaxis] > 0.0, old_row, rows)
        rows = tf.where(here[:, tf.newaxis] > 0.0, pivot_row, moved)
        sign *= tf.where(tf.equal(chosen, k), tf.ones_like(sign), -tf.ones_like(sign))
        pivot = rows[..., k : k + 1, k : k + 1]
        pivots.append(pivot[..., 0, 0])
        scaled = rows[..., k : k + 1, :] / pivot
        factors = tf.where(here[:, tf.newaxis] > 0.0, tf.zeros_like(rows[..., :1]), rows[..., k : k + 1])
        rows = tf.where(here[:, tf.newaxis] > 0.0, scaled, rows - factors * scaled)
    return rows[..., size:], sign, pivots


def solve(node: NodeDef, matrix: Tensor, right: Tensor) -> Tensor | None:
    """x of matrix x = right."""
    import tensorflow as tf

    size = _small(matrix)
    if size is None:
        return None
    if node.attr["adjoint"].b:
        matrix = tf.linalg.matrix_transpose(matrix)
    return _eliminated(matrix, right, size)[0]


def inverse(node: NodeDef, matrix: Tensor) -> Tensor | None:
    """The inverse of each matrix."""
    import tensorflow as tf

    size = _small(matrix)
    if size is None:
        return None
    if node.attr["adjoint"].b:
        matrix = tf.linalg.matrix_transpose(matrix)
    return _eliminated(matrix, _unit(matrix, size), size)[0]


def determinant(node: NodeDef, matrix: Tensor) -> Tensor | None:
    """The product of the pivots, with the sign of the exchanges."""
    size = _small(matrix)
    if size is None:
        return None
    _, result, pivots = _eliminated(matrix, matrix[..., :0], size)
    for pivot in pivots:
        result = result * pivot
    return result


def log_determinant(node: NodeDef, matrix: Tensor) -> list[Tensor] | None:
    """The sign of the determinant and the logarithm of its size."""
    import tensorflow as tf

    size = _small(matrix)
    if size is None:
        return None
    _, sign, pivots = _eliminated(matrix, matrix[..., :0], size)
    total = tf.zeros_like(sign)
    for pivot in pivots:
        sign = sign * tf.sign(pivot)
        total += tf.math.log(tf.abs(pivot))
    return [sign, total]


def cholesky(node: NodeDef, matrix: Tensor) -> Tensor | None:
    """The lower triangular L of L L^T = matrix, column by column; only the lower triangle is read."""
    import tensorflow as tf

    size = _small(matrix)
    if size is None:
        return None
    columns: list[Tensor] = []
    for k in range(size):
        rest = matrix[..., k:, k]
        for column in columns:
            rest = rest - column[..., k:] * column[..., k : k + 1]
        found = rest / tf.sqrt(rest[..., :1])
        columns.append(tf.concat([tf.zeros_like(matrix[..., :k, k]), found], axis=-1))
    return tf.stack(columns, axis=-1)


def solve_triangular(node: NodeDef, matrix: Tensor, right: Tensor) -> Tensor | None:
    """x of matrix x = right for a triangular matrix, row by row; the other triangle is not read."""
    import tensorflow as tf

    size = _small(matrix)
    if size is None:
        return None
    lower = node.attr["lower"].b
    if node.attr["adjoint"].b:
        matrix, lower = tf.linalg.matrix_transpose(matrix), not lower
    order = range(size) if lower else reversed(range(size))
    found: dict[int, Tensor] = {}
    for k in order:
        rest = right[..., k : k + 1, :]
        for other, row in found.items():
            rest = rest - matrix[..., k : k + 1, other : other + 1] * row
        found[k] = rest / matrix[..., k : k + 1, k : k + 1]
    return tf.concat([found[k] for k in range(size)], axis=-2)


def diagonal(node: NodeDef, matrix: Tensor, k: Tensor, padding: Tensor) -> Tensor | None:
    """One diagonal of each matrix, picked from the flattened one."""
    import tensorflow as tf

    place = tf.get_static_value(k)
    if place is None or place.size != 1 or matrix.shape.rank is None or None in matrix.shape[-2:]:
        return None
    rows, columns = (int(size) for size in matrix.shape[-2:])
    offset = int(place.reshape(-1)[0])
    index = [row * columns + row + offset for row in range(rows) if 0 <= row + offset < columns]
    leading = [-1 if size is None else size for size in matrix.shape[:-2]]
    if leading.count(-1) > 1:
        return None
    return tf.gather(tf.reshape(matrix, [*leading, rows * columns]), index, axis=-1)


def _unit(matrix: Tensor, size: int) -> Tensor:
    """Unit matrices with the leading axes of `matrix`."""
    import tensorflow as tf

    return tf.zeros_like(matrix) + tf.eye(size, dtype=matrix.dtype)


def cross(node: NodeDef, x: Tensor, y: Tensor) -> Tensor:
    """The cross product of vectors of three numbers along the last axis."""
    import tensorflow as tf

    (a, b, c), (d, e, f) = (tf.unstack(each, num=3, axis=-1) for each in (x, y))
    return tf.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=-1)


def product_of_bytes(node: NodeDef, x: Tensor, y: Tensor) -> Tensor | None:
    """The product of matrices of int8, by one of float32: exact up to 1040 terms, rounded once beyond."""
    import tensorflow as tf

    if {x.dtype, y.dtype} - {tf.int8, tf.uint8}:
        return None
    single = (tf.cast(each, tf.float32) for each in (x, y))
    return tf.cast(tf.matmul(*single, adjoint_a=node.attr["adj_x"].b, adjoint_b=node.attr["adj_y"].b), _result(node))


def _result(node: NodeDef) -> int:
    return int(node.attr["Tout"].type)


RULES: Mapping[str, Rule] = {
    "MatrixSolve": solve,
    "MatrixInverse": inverse,
    "MatrixDeterminant": determinant,
    "LogMatrixDeterminant": log_determinant,
    "Cholesky": cholesky,
    "MatrixTriangularSolve": solve_triangular,
    "MatrixDiagPartV3": diagonal,
    "Cross": cross,
    "BatchMatMulV3": product_of_bytes,
}
