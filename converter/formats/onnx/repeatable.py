"""tf2onnx's conversion made repeatable: sets keep their order, and numbers in names begin at the same one.

tf2onnx walks over sets of names and of nodes, whose order depends on the hash seed and on addresses; it puts addresses
into names, and numbers names over all conversions of a process. So one model would give files that differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, MutableSet, Set
from contextlib import contextmanager
from typing import TypeVar

Element = TypeVar("Element")


class OrderedSet(MutableSet[Element]):
    """A set that is walked over in the order in which its elements were added, with the methods that tf2onnx uses."""

    def __init__(self, elements: Iterable[Element] = ()) -> None:
        self._elements = dict.fromkeys(elements)

    def __contains__(self, element: object) -> bool:
        return element in self._elements

    def __iter__(self) -> Iterator[Element]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def add(self, value: Element) -> None:
        """Add an element, behind the others."""
        self._elements.setdefault(value)

    def discard(self, value: Element) -> None:
        """Remove an element if it is there."""
        self._elements.pop(value, None)

    def update(self, *others: Iterable[Element]) -> None:
        """Add the elements of `others`."""
        for other in others:
            self._elements.update(dict.fromkeys(other))

    def copy(self) -> OrderedSet[Element]:
        """Another set of the same elements."""
        return OrderedSet(self)

    def union(self, *others: Iterable[Element]) -> OrderedSet[Element]:
        """The elements of this set and of `others`."""
        result = self.copy()
        result.update(*others)
        return result

    def intersection(self, *others: Iterable[Element]) -> OrderedSet[Element]:
        """The elements that all of `others` have too."""
        known = [other if isinstance(other, Set) else frozenset(other) for other in others]
        return OrderedSet(each for each in self if all(each in other for other in known))

    def difference(self, *others: Iterable[Element]) -> OrderedSet[Element]:
        """The elements that none of `others` has."""
        left_out = frozenset(each for other in others for each in other)
        return OrderedSet(each for each in self if each not in left_out)

    def issubset(self, other: Iterable[Element]) -> bool:
        """Whether `other` has every element of this set."""
        return self <= (other if isinstance(other, Set) else frozenset(other))

    def issuperset(self, other: Iterable[Element]) -> bool:
        """Whether this set has every element of `other`."""
        return all(each in self for each in other)


_FIRST = 1000
"""The first number of an object: an equation's operands have the smaller ones."""


class _Numbers:
    """Stands for `id`: the number of an object in the order in which they were asked for. Keeps the objects."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, object]] = {}

    def __call__(self, one: object) -> int:
        return self._known.setdefault(id(one), (_FIRST + len(self._known), one))[0]


@contextmanager
def repeatable() -> Iterator[None]:
    """Within the context, the modules of tf2onnx have other `set` and `id`, and names are numbered from 1."""
    from tf2onnx import utils

    own = {"set": OrderedSet, "id": _Numbers()}
    modules = [vars(each) for name, each in list(sys.modules.items()) if name.partition(".")[0] == "tf2onnx" and each]
    changed = [module for module in modules if not own.keys() & module.keys()]
    vars(utils)["INTERNAL_NAME"] = 1
    for module in changed:
        module.update(own)
    try:
        yield
    finally:
        for module in changed:
            for name in own:
                del module[name]
