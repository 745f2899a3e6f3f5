"""Where JavaScript code is: the scripts of this package, and the npm packages on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

WEB = Path(__file__).with_name("web")
"""The directory of the scripts and of the page"""

MANIFEST = "manifest.json"
"""Of an artifact directory"""

MODULES_VARIABLE = "CNNEXPORT_NODE_MODULES"


def modules_directory(package: str) -> Path | None:
    """The node_modules directory that holds `package`, or None.

    If $CNNEXPORT_NODE_MODULES is set, only that directory; otherwise ./node_modules, then the user's cache directory. A
    ./node_modules inside of an artifact directory is never used: it came with the files that are verified.
    """
    chosen = os.environ.get(MODULES_VARIABLE)
    here = Path("node_modules")
    candidates = [*([] if _in_artifacts(here) else [here]), cache_directory() / "node_modules"]
    candidates = [Path(chosen)] if chosen else candidates
    return next((each.resolve() for each in candidates if (each / package / "package.json").is_file()), None)


def _in_artifacts(path: Path) -> bool:
    """Whether `path`, or what it links to, is inside of a directory with a manifest."""
    places = {*path.absolute().parents, *path.resolve().parents}
    return any((place / MANIFEST).exists() for place in places)


def cache_directory() -> Path:
    """The user's cache directory of cnnexport (XDG Base Directory Specification); it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "cnnexport"


def package_version(package: str) -> str | None:
    """The version of an npm package, or None if it is not found."""
    modules = modules_directory(package)
    if modules is None:
        return None
    try:
        described = json.loads((modules / package / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(described.get("version", "")) or None


def missing_package(package: str) -> str | None:
    """None if an npm package is found, otherwise why it cannot be used, with the command that installs it."""
    if modules_directory(package) is None:
        return f"npm package {package} not found; npm install --ignore-scripts {package} (or set ${MODULES_VARIABLE})"
    return None
