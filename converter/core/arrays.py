"""Which exceptions say that an .npy or .npz file is damaged."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib

HEADER_ERRORS = (SyntaxError, tokenize.TokenError, TypeError, ValueError, RecursionError, MemoryError)
"""Of the header of an array, which numpy reads as a Python literal, and tokenizes if that fails."""

FILE_ERRORS = (
    *HEADER_ERRORS, OSError, EOFError, LookupError, AttributeError, OverflowError, NotImplementedError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Of `numpy.load` and of reading the arrays of what it returns, for a file of any content."""
