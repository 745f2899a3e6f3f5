"""The build of cnnexport-verify: collects the packages of the converter that verifying needs.

In a checkout they are in the folder above this one; in an unpacked sdist, which includes them, beside this file.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "core", "data", "inspection", "prediction", "bundle", "runtimes", "proof", "bench", "report", "pipeline", "fleets",
    "serving", "signing", "cli",
)  # fmt: skip
BuildData = dict[str, Any]  # hatchling has no type for it
FILES = ("__init__.py", "__main__.py", "py.typed")


def converter() -> Path:
    """The folder of the package `converter`."""
    inside = HERE / "converter"
    return inside if inside.is_dir() else HERE.parent


def version() -> str:
    """The version of both distributions."""
    return str(runpy.run_path(str(converter() / "core" / "version.py"))["__version__"])


class VerifyOnly(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the packages to a wheel and to an sdist."""

    def initialize(self, version: str, build_data: BuildData) -> None:
        root = converter()
        found = {root / name: f"converter/{name}" for name in (*PACKAGES, *FILES)}
        if self.target_name == "wheel":
            found[root / "cli" / "cnnexport"] = "cnnexport"
        licence = HERE / "LICENSE" if (HERE / "LICENSE").is_file() else root.parent / "LICENSE"
        if self.target_name == "sdist":
            found[licence] = "LICENSE"
        build_data["force_include"].update({str(path): place for path, place in found.items()})
