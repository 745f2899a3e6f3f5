"""A hash of a set of labelled images, by which the same set is recognized wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from converter.data.samples import Samples


def digests_of(samples: Samples) -> list[str]:
    """The sha256 of every image. Raises InputError where a file cannot be read."""
    return [samples.digest(index) for index in range(len(samples))]


def fingerprint(samples: Samples, digests: Sequence[str]) -> str:
    """The hash of all images and of their classes, in order."""
    pairs = (f"{digest}{label}" for digest, label in zip(digests, samples.labels, strict=True))
    return hashlib.sha256("".join(pairs).encode()).hexdigest()
