"""The installed package `cnnexport`: the API of `converter` under the name of the distribution, and the console script.

A wheel contains this folder as cnnexport/. Names are looked up in `converter` at their first use.
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
    """The console script: `converter.cli.main.run`, or exit 2 if another package named converter hides ours."""
    try:
        from converter.cli.main import run
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("converter"):
            raise
        other = getattr(sys.modules.get("converter"), "__file__", None) or "somewhere on PYTHONPATH"
        sys.stderr.write(
            f"cnnexport: another package named converter, {other}, hides the one of cnnexport\n"
            "  remove its directory from PYTHONPATH, or rename it\n"
        )
        raise SystemExit(2) from error
    run()
