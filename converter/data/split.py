"""The parts of a set of labelled images: training, validation and test, the same for the same seed on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from converter.core.errors import UsageError
from converter.data.samples import Indices

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Indices of the images of each part, ascending; no image is in two parts."""

    train: Indices
    validation: Indices
    test: Indices

    def part(self, name: str) -> Indices:
        """The indices of one of `PARTS`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split(
    labels: Indices, digests: Sequence[str], *, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Divide the images of each class by the shares `validation` and `test`; the rest is for training.

    Images with the same `digests` stay together, so that no test image was seen in training. The order within a class
    is a permutation seeded by `seed` and the class. Raises UsageError for shares that leave nothing for training, and
    for a class of too few different images.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise UsageError(f"--validation {validation:g} --test {test:g}: give shares above 0 that together are below 1")
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    taken: dict[str, str] = {}  # the part of a digest that an earlier class has, too
    for label in np.unique(labels):
        groups: dict[str, list[int]] = {}
        for index in np.flatnonzero(labels == label).tolist():
            groups.setdefault(digests[index], []).append(index)
        keys = list(groups)
        if len(keys) < len(PARTS):
            raise UsageError(f"class {int(label)}: {len(keys)} different images, too few for three parts\nadd images")
        order = np.random.Generator(np.random.PCG64([seed, int(label)])).permutation(len(keys))
        counts = {
            name: max(1, round(share * len(keys))) for name, share in (("validation", validation), ("test", test))
        }
        if sum(counts.values()) >= len(keys):
            counts = {"validation": 1, "test": 1}
        ends = np.cumsum([counts["test"], counts["validation"]])
        for place, number in enumerate(order):
            name = "test" if place < ends[0] else "validation" if place < ends[1] else "train"
            name = taken.setdefault(keys[number], name)
            parts[name] += groups[keys[number]]
    return Split(*(np.array(sorted(parts[name]), np.int64) for name in PARTS))
