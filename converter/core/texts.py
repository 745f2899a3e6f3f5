"""Seeded texts for inputs of type string: words of a vocabulary, and some that are in none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from converter.core.data import Array

MOST_WORDS = 1 << 14
WORDS_IN_A_SENTENCE = (3, 12)
UNKNOWN = ("zyxwv", "Qwertz")
ALPHABET = tuple("abcdefghijklmnopqrstuvwxyz")
"""The words where there is no vocabulary."""


def draw_texts(name: str, shape: tuple[int, ...], seed: int, words: Sequence[str], *, sentences: bool) -> Array:
    """Texts of `shape`, as bytes in UTF-8: of one word each, or `sentences` of several, one word in ten unknown.

    The input's `name` and `seed` decide which; `words` may be empty.
    """
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    stream = np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in digest))
    rng = np.random.Generator(np.random.PCG64(stream))
    known = tuple(words[:MOST_WORDS]) or ALPHABET

    def word() -> str:
        table = UNKNOWN if rng.random() < 0.1 else known
        return table[int(rng.integers(len(table)))]

    def text() -> str:
        return " ".join(word() for _ in range(int(rng.integers(*WORDS_IN_A_SENTENCE)))) if sentences else word()

    count = int(np.prod(shape))
    return np.array([text().encode() for _ in range(count)], dtype=np.bytes_).reshape(shape)


def as_bytes(array: Array) -> Array:
    """An array of text as one of bytes in UTF-8, which needs no pickle to be stored."""
    return np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
