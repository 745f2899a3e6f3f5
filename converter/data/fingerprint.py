"""Hashes by which images are recognized: a labelled set wherever it lies, and samples as a model takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from converter.core.data import Arrays
from converter.data.samples import Samples


def digests_of(samples: Samples) -> list[str]:
    """The sha256 of every image. Raises InputError where a file cannot be read."""
    return [samples.digest(index) for index in range(len(samples))]


def fingerprint(samples: Samples, digests: Sequence[str]) -> str:
    """The hash of all images and of their classes, in order."""
    pairs = (f"{digest}{label}" for digest, label in zip(digests, samples.labels, strict=True))
    return hashlib.sha256("".join(pairs).encode()).hexdigest()


DIGITS = 16
"""Of the hash of a sample that an artifact keeps"""


def array_hash(arrays: Arrays, index: int) -> str:
    """The sha256 of one sample of `arrays`, by input name."""
    content = b"".join(np.ascontiguousarray(arrays[name][index]).tobytes() for name in sorted(arrays))
    return hashlib.sha256(content).hexdigest()


def overlap(hashes: Sequence[str], arrays: Arrays) -> int:
    """How many samples of `arrays`, by input name as a model takes them, are among those with the `hashes`.

    `hashes` are the `sample_hashes` of an int8 artifact: accuracy on samples that calibrated it says too much.
    """
    known = set(hashes)
    return sum(array_hash(arrays, index)[:DIGITS] in known for index in range(len(next(iter(arrays.values())))))
