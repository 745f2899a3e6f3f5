"""Every attack ends with its exit code and its words, creates nothing outside, and shows nothing of what is secret."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import on_artifacts  # noqa: F401  enters its attacks
import on_directories  # noqa: F401
import on_model_files  # noqa: F401
import on_other_files  # noqa: F401
import pytest
from attack import ATTACKS, Attack, Place

SECRET = "the-secret-of-the-user"


@pytest.fixture
def place(tmp_path: Path, exported: Any) -> Place:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (outside / "outside").mkdir(parents=True)
    work = tmp_path
    export = Path(shutil.copytree(exported.directory, outside / "exports" / "two_heads"))
    (outside / "outside" / "secret").write_text(f"{SECRET}\n" * 2000)
    return Place(work, export, outside / "outside")


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


LONG = {each.name for each in ATTACKS if each.surface == "SavedModel"} - {"operation-that-writes"}
"""Each loads TensorFlow twice; tests/runtimes/test_parts.py has the same operations on a smaller model."""


@pytest.mark.parametrize(
    "attack",
    [pytest.param(each, marks=[pytest.mark.slow] * (each.name in LONG), id=each.name) for each in ATTACKS],
)
def test_an_attack_is_stopped(attack: Attack, place: Place, cnnexport: Callable[..., Any]) -> None:
    arguments = attack.build(place)
    before = listing(place.outside), listing(place.export)
    outcome = cnnexport(*arguments)
    said = outcome.stdout + outcome.stderr
    assert outcome.code == attack.code, said
    assert attack.says in " ".join(said.split())
    assert (listing(place.outside), listing(place.export)) == before
    assert not place.target.exists()
    assert SECRET not in said
    assert "Traceback" not in said
    for line in said.splitlines():
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line


def test_the_attacks_would_do_harm(place: Place, nets: Path) -> None:
    """With trust, a Lambda of this kind does create the target: the harness sees what it looks for."""
    import on_model_files as files

    from converter import sources
    from converter.core.data import SourceOptions

    os.chdir(place.work)
    files.exported(place, files.creating(place))
    sources.load(str(place.work / "evil.keras"), SourceOptions(trust=True))
    assert place.target.exists()


def test_the_document_has_every_attack() -> None:
    """docs/security.md shows the table that `table.py` prints."""
    from table import table

    text = Path(__file__).resolve().parents[2].joinpath("docs", "security.md").read_text()
    assert table() in text, "python tests/attacks/table.py prints the table of docs/security.md"
