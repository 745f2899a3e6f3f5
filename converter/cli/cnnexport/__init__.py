"""The package `cnnexport`, as it is installed: the API of `converter` by the name of the distribution, and the script.

A wheel holds this folder as cnnexport/. Everything is looked up in `converter` when it is first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter import *  # noqa: F403


def __getattr__(name: str) -> object:
    import converter

    try:
        return getattr(converter, name)
    except AttributeError:
        raise AttributeError(f"module 'cnnexport' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    import converter

    return sorted({*globals(), *converter.__all__})


def main() -> None:
    """The console script: `converter.cli.main.main`, or exit 2 where another package of that name hides ours."""
    try:
        from converter.cli.main import main as run
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("converter"):
            raise
        other = getattr(sys.modules.get("converter"), "__file__", None) or "somewhere on PYTHONPATH"
        sys.stderr.write(
            f"cnnexport: another package called converter, {other}, hides the one of cnnexport\n"
            "  take its folder off PYTHONPATH, or rename it\n"
        )
        raise SystemExit(2) from error
    run()
