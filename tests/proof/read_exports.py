"""What the tests of rows share: an export as the proof takes it, and a runtime that never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from converter.bundle.golden import read_golden
from converter.bundle.manifest import GOLDEN, read_manifest
from converter.proof import isolate
from converter.proof.exported import Exported

if TYPE_CHECKING:
    from conftest import Exported as Files


def subject(files: Files) -> Exported:
    manifest = read_manifest(files.directory)
    golden = read_golden(files.directory / GOLDEN, manifest.interface)
    return Exported(files.directory, manifest.artifacts, manifest.interface, golden)


def endless(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[..., Any], threading.Event]:
    """In place of `run_artifact`: its child waits for ten minutes. The event is set when it begins."""
    (place / "endless.py").write_text("import sys, time\nsys.stdin.read()\ntime.sleep(600)")
    monkeypatch.syspath_prepend(place)
    started = threading.Event()

    def run(*_: object) -> Any:
        started.set()
        return isolate.call("endless", {}, "a runtime")

    return run, started
