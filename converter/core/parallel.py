"""The same work for several large arrays, a thread for each core: numpy computes without Python's lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LARGE = 1 << 20
"""Elements from which a thread is worth it."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_inside = threading.local()


def mapped(function: Callable[[_Item], _Result], items: Iterable[_Item], size: int) -> list[_Result]:
    """`function` of every item, in their order; on threads if all of them have `size` elements, a large number.

    What is called from such a thread uses no further ones. Raises what `function` raises.
    """
    given = list(items)
    workers = min(len(given), os.cpu_count() or 1)
    if size < LARGE or workers < 2 or getattr(_inside, "active", False):
        return [function(item) for item in given]

    def marked(item: _Item) -> _Result:
        _inside.active = True
        return function(item)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(marked, given))
