"""Arrays on their way into a file, without a second copy in memory. What the file looks like is its format's affair."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from converter.core.data import Array

_PIECE = 16 << 20  # bytes that are copied at a time


def write_array(file: BinaryIO, array: Array) -> None:
    """Write an array's elements in C order; a transposed view is copied in slices, not as a whole."""
    if array.flags.c_contiguous or array.ndim < 2:
        file.write(np.ascontiguousarray(array).data.cast("B"))
        return
    step = max(1, _PIECE // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        file.write(np.ascontiguousarray(array[start : start + step]).data.cast("B"))
