"""The attacks as the table of docs/security.md: `python tests/attacks/table.py`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

MODULES = "on_model_files", "on_artifacts", "on_directories", "on_other_files"


def table() -> str:
    """The attacks by surface as Markdown."""
    for name in MODULES:
        importlib.import_module(name)
    attacks = importlib.import_module("attack").ATTACKS
    attacks = sorted(attacks, key=lambda each: MODULES.index(each.build.__module__))
    order = list(dict.fromkeys(each.surface for each in attacks))
    rows = [
        f"| {each.surface} | {each.what} | {each.code} | {each.stops} |"
        for each in sorted(attacks, key=lambda each: order.index(each.surface))
    ]
    return "\n".join(["| in | attack | exit | what stops it |", "|---|---|--:|---|", *rows])


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
    print(table())
