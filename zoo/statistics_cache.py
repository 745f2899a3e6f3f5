"""What a calibration measured, kept in the user's cache directory: the next one of the model needs no forward pass.

A file holds the moments of each layer, some hundred kilobytes, and no weights: those are drawn from the seed again. Its
name is a digest of everything that the moments depend on. A file that is missing, damaged or unreadable only costs
time, and so does a directory that cannot be written to. `CNNEXPORT_CACHE=off` turns the cache off.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

VARIABLE, OFF = "CNNEXPORT_CACHE", "off"
"""The environment variable that turns the cache off, and its value."""

MOST = 64
"""Number of files that are kept."""

Moments = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Mean and variance of each unit of a layer, both of shape (units,)."""

_SUFFIX = ".moments"


def directory() -> Path | None:
    """Where the files are (XDG Base Directory Specification); None if the cache is off or there is no home."""
    if os.environ.get(VARIABLE, "").lower() == OFF:
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return Path(base or Path.home() / ".cache", "cnnexport", "calibration")
    except RuntimeError:
        return None


def digest(parts: Iterable[bytes]) -> str:
    """A name for what depends on `parts`, and on their order."""
    found = hashlib.sha256()
    for part in parts:
        found.update(b"%d " % len(part))
        found.update(part)
    return found.hexdigest()


def read(name: str) -> dict[int, Moments] | None:
    """The moments by the layer's index that were written under `name`, or None."""
    place = directory()
    if place is None:
        return None
    try:
        data = (place / f"{name}{_SUFFIX}").read_bytes()
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        with np.load(io.BytesIO(data[32:]), allow_pickle=False) as file:
            return {int(key): _moments(file[key]) for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def write(name: str, moments: Mapping[int, Moments]) -> None:
    """Write `moments` under `name`, in one step, and remove the oldest files beyond `MOST`."""
    place = directory()
    if place is None:
        return
    stream = io.BytesIO()
    arrays: dict[str, npt.NDArray[np.float64]] = {str(index): np.stack(pair) for index, pair in moments.items()}
    np.savez(stream, allow_pickle=False, **arrays)
    data = stream.getvalue()
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            Path(partial).replace(place / f"{name}{_SUFFIX}")
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise
        newest = sorted(place.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest[MOST:]:
            path.unlink(missing_ok=True)


def _moments(array: npt.NDArray[np.float64]) -> Moments:
    if array.dtype != np.float64 or array.ndim != 2 or len(array) != 2 or not np.isfinite(array).all():
        raise ValueError("not two finite vectors")
    mean, variance = array
    return mean, variance
