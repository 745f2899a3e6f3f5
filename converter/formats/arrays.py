"""Arrays written to a file without a second copy in memory. The layout of the file is in each format's own module."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from converter.core.data import Array

_PIECE = 16 << 20  # bytes that are copied at a time
_TILE = 64  # columns of a transposed matrix that are copied at a time, so that what is read stays in the cache


def write_array(file: BinaryIO, array: Array) -> None:
    """Write an array's elements in C order; a transposed view is copied in slices of about 16 MiB.

    Raises OSError where the disk refuses.
    """
    if array.flags.c_contiguous or array.ndim < 2:
        file.write(np.ascontiguousarray(array).data.cast("B"))
        return
    step = max(1, _PIECE // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        part = array[start : start + step]
        piece = np.empty(part.shape, part.dtype)
        for first in range(0, part.shape[1], _TILE):
            piece[:, first : first + _TILE] = part[:, first : first + _TILE]
        file.write(piece.data.cast("B"))
