"""A file as a graph of operations, the same for every format, and what follows from it: cost and memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

ITEM_BYTES = {
    "float64": 8, "int64": 8, "uint64": 8, "complex64": 8, "float32": 4, "int32": 4, "uint32": 4, "float16": 2,
    "bfloat16": 2, "int16": 2, "uint16": 2, "int8": 1, "uint8": 1, "bool": 1, "int4": 1, "uint4": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A tensor: its name, its shape for a batch of one (None is unknown), its type, and whether it is stored."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    stored: bool = False

    @property
    def elements(self) -> int | None:
        """The number of elements, None if a size is unknown."""
        if self.shape is None or any(size is None or size < 0 for size in self.shape):
            return None
        return math.prod(size for size in self.shape if size is not None)

    @property
    def bytes(self) -> int | None:
        """The bytes that its elements take."""
        return None if self.elements is None else self.elements * ITEM_BYTES.get(self.dtype, 4)


@dataclass(frozen=True)
class Operation:
    """One node. `multiply_adds` is the cost of a convolution or product for a batch of one, None if unknown."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    multiply_adds: int | None = 0


@dataclass(frozen=True)
class FileGraph:
    """The operations of a file in the order in which they run, and its tensors by name."""

    operations: tuple[Operation, ...]
    values: Mapping[str, Value]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def operators(self) -> dict[str, int]:
        """The number of operations by kind."""
        return dict(sorted(Counter(each.kind for each in self.operations).items()))

    @property
    def weights(self) -> list[Value]:
        """The stored tensors, the largest first."""
        return sorted(
            (each for each in self.values.values() if each.stored), key=lambda each: (-(each.bytes or 0), each.name)
        )

    @property
    def multiply_adds(self) -> int | None:
        """For one image; None if the cost of an operation is unknown."""
        costs = [each.multiply_adds for each in self.operations]
        return None if any(each is None for each in costs) else sum(each for each in costs if each is not None)

    @property
    def activation_bytes(self) -> int | None:
        """The most that is in memory at once, operation after operation, a tensor from its first to its last use.

        None if a size is unknown. What a runtime needs for itself, or saves by working in place, is not counted.
        """
        last: dict[str, int] = {}
        for number, each in enumerate(self.operations):
            last |= dict.fromkeys((*each.inputs, *each.outputs), number)
        last |= {each.name: len(self.operations) for each in self.outputs}
        alive = {each.name: each for each in self.inputs}
        most = 0
        for number, each in enumerate(self.operations):
            alive |= {name: self.values[name] for name in each.outputs if name in self.values}
            sizes = [value.bytes for value in alive.values()]
            if any(size is None for size in sizes):
                return None
            most = max(most, sum(size for size in sizes if size is not None))
            alive = {name: value for name, value in alive.items() if last.get(name, -1) > number}
        return most


def product(sizes: tuple[int | None, ...] | None) -> int | None:
    """The product of known sizes, None if one is unknown."""
    return Value("", sizes, "float32").elements


def times(*factors: int | None) -> int | None:
    """The product, None if a factor is unknown."""
    return None if any(each is None for each in factors) else math.prod(each for each in factors if each is not None)
