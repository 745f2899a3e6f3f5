"""What an attack is, and the list of them.

An attack is a function that builds a hostile file in `Place.work`, or spoils the export in `Place.export`, and returns
the arguments with which a careful user would run `cnnexport`, that is without `--trust`. `test_attacks.py` runs each
and demands its exit code, its words, and that nothing was created or read outside; `table.py` prints the list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """The directories of one attack.

    work: the current directory of the user. export: an export that passes, of one input `image` and two outputs.
    outside: what belongs to neither; `secret` in it is not to be read, and nothing is to be created.
    """

    work: Path
    export: Path
    outside: Path

    @property
    def target(self) -> Path:
        """A file that does not exist, and that no attack may create."""
        return self.outside / "created"

    @property
    def secret(self) -> Path:
        """A file that no attack may read."""
        return self.outside / "secret"

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json of the export."""
        parsed: dict[str, Any] = json.loads((self.export / "manifest.json").read_text())
        return parsed

    def rewrite(self, **changes: object) -> None:
        """Replace entries of manifest.json."""
        (self.export / "manifest.json").write_text(json.dumps({**self.manifest, **changes}))

    def repair(self) -> None:
        """State the hashes of all files as they are now, as who can write the files can do."""
        files = {
            str(path.relative_to(self.export)): {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "size": path.stat().st_size,
            }
            for path in sorted(self.export.rglob("*"))
            if path.is_file() and path.name not in ("manifest.json", "report.json", "report.html")
        }
        self.rewrite(files=files)


Build = Callable[[Place], list[str]]


@dataclass(frozen=True)
class Attack:
    """`stops` says which part of the program ends it; `says` is a part of the error or of a row in the report."""

    surface: str
    what: str
    build: Build
    code: int
    says: str
    stops: str

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.build.__name__.replace("_", "-")


ATTACKS: list[Attack] = []


def attack(surface: str, what: str, code: int, says: str, stops: str) -> Callable[[Build], Build]:
    """Enter the decorated function in `ATTACKS`."""

    def enter(build: Build) -> Build:
        ATTACKS.append(Attack(surface, what, build, code, says, stops))
        return build

    return enter
