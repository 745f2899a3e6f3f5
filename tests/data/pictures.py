"""Images for the tests, as files of every kind that people have."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    """A smooth image with fine detail, RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + 2 * channel) + y / 7 + seed) + np.cos(y / (2 + channel)) for channel in range(3)]
    values = 128 + 50 * np.stack(waves, -1) + rng.normal(0, 20, (height, width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 5, size: int = 24) -> Path:
    """A folder with `count` images in a folder for each of `names`."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            photograph(size, size, seed=100 * number + index).save(folder / name / f"{index}.png")
    return folder


def bomb(path: Path, width: int = 30_000, height: int = 30_000) -> Path:
    """A PNG of a few bytes that declares 900 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path
