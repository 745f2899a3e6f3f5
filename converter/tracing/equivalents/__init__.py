"""Operators of TensorFlow as others that compute the same: RULES, one function an operator, by its name.

Each format names the operators that it lacks (`OPERATORS` of its package); `converter.tracing.lowering` replaces them.
"""

from __future__ import annotations

from collections.abc import Mapping

from converter.tracing.equivalents import (
    bits,
    convolutions,
    counting,
    elementwise,
    images,
    matrices,
    projections,
    sparse,
    windows,
)
from converter.tracing.lowering import Rule

RULES: Mapping[str, Rule] = {
    **elementwise.RULES,
    **bits.RULES,
    **counting.RULES,
    **windows.RULES,
    **convolutions.RULES,
    **matrices.RULES,
    **images.RULES,
    **projections.RULES,
    **sparse.RULES,
}
