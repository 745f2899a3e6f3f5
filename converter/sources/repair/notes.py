"""How repairs are reported, and what a message advises where a repair is impossible."""

from __future__ import annotations

from collections import Counter

REBUILD = "rebuild the model in Python with Keras 3, and export it as package.module:function with --weights"


def listed(notes: Counter[str]) -> tuple[str, ...]:
    """The kinds of repair in `notes`, each with its count where there was more than one."""
    return tuple(what if count == 1 else f"{what} ({count} places)" for what, count in notes.items())
