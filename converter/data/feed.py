"""Labelled images as batches of model inputs: decoded and resized once where memory allows, else for each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.data.preprocessing import Pixels, Preprocessing, Values
from converter.data.samples import Indices, Samples

KEPT = 2 << 30
"""Bytes of decoded pixels that are kept in memory"""


@dataclass(frozen=True)
class Feed:
    """The images `indices` of `samples`, at `size` (height, width); `labels` are their classes in the model."""

    samples: Samples
    indices: Indices
    labels: Indices
    preprocessing: Preprocessing
    size: tuple[int, int]
    kept: dict[int, Pixels] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def keeps(self) -> bool:
        """Whether all decoded pixels fit into memory."""
        channels = 1 if self.preprocessing.channels == "gray" else 3
        return len(self) * self.size[0] * self.size[1] * channels <= KEPT

    def pixels(self, position: int) -> Pixels:
        """One image, uint8 of shape (height, width, channels). Raises InputError for a damaged file."""
        if position in self.kept:
            return self.kept[position]
        found = self.samples.pixels(
            int(self.indices[position]), self.preprocessing.channels, self.size, self.preprocessing.resize
        )
        if self.keeps:
            self.kept[position] = found
        return found

    def batch(self, positions: Sequence[int] | Indices) -> Values:
        """The inputs at `positions`: float32, shape (len(positions), height, width, channels)."""
        return self.preprocessing.apply(np.stack([self.pixels(int(position)) for position in positions]))

    def decode(self, progress: Callable[[int, int], None]) -> None:
        """Decode every image once, so that a damaged one is found at the beginning; `progress(done, of)` is called."""
        for position in range(len(self)):
            self.pixels(position)
            progress(position + 1, len(self))
