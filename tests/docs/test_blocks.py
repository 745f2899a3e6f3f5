"""Every block of commands and of Python in README.md and docs/ is run, page by page (pytest -m docs)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import PAGES, ROOT, Block, blocks, matches, steps

pytestmark = pytest.mark.docs

SECONDS = 300
"""That one block may take."""

MODEL = """
import keras
import my_nets

model = my_nets.build()
model.save("model.keras")
model.save_weights("model.weights.h5")
"""


def call(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """`command` in the directory `place`, in an environment without settings of cnnexport or of a CI; both streams."""
    foreign = ("CNNEXPORT_", "GITHUB_", "COLUMNS")  # the width of the table is that of a file, not of a worker
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command, cwd=place, env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def shell(text: str, place: Path) -> subprocess.CompletedProcess[str]:
    return call(["bash", "-euo", "pipefail", "-c", text], place)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the pages presuppose: my_nets.py, as docs/sources.md shows it, its model saved and exported, the schemas.

    The place where it was made, and a copy. A file's place is part of what an export is recognized by, so that each
    page gets the copy in that very place.
    """
    place = tmp_path_factory.mktemp("pages") / "page"
    place.mkdir()
    shown = next(block for block in blocks(ROOT / "docs" / "sources.md") if block.file == "my_nets.py")
    (place / "my_nets.py").write_text(shown.text)
    shutil.copytree(ROOT / "docs" / "schemas", place / "schemas")
    for done in (call([sys.executable, "-c", MODEL], place), shell("cnnexport ./model.keras --quiet", place)):
        assert done.returncode == 0, done.stdout
    return place, Path(shutil.copytree(place, place.with_name("copy")))


@pytest.fixture
def place(prepared: tuple[Path, Path]) -> Path:
    """A directory as the pages presuppose it, untouched."""
    place, copy = prepared
    shutil.rmtree(place)
    return Path(shutil.copytree(copy, place))


def run(block: Block, place: Path) -> None:
    """Run one block in `place`; fails where it does not end as the page says, or does not print what it shows."""
    if block.file:
        (place / block.file).write_text(block.text)
        return
    if block.language == "console":
        for command, expected in steps(block.text):
            done = shell(command, place)
            assert done.returncode == block.exit_code, f"{block}: {command}: exit {done.returncode}\n{done.stdout}"
            assert matches(expected, done.stdout), f"{block}: {command} does not print that, but\n{done.stdout}"
        return
    done = call([sys.executable, "-c", block.text], place) if block.language == "python" else shell(block.text, place)
    assert done.returncode == block.exit_code, f"{block}: exit {done.returncode}\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page: Path, place: Path) -> None:
    for block in blocks(page):
        if not block.left_out:
            run(block, place)


def test_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = call([sys.executable, "-m", "sphinx", "-W", "-b", "html", str(ROOT / "docs"), "out"], tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "commands.html").is_file()


def test_pictures_are_what_their_script_draws() -> None:
    done = call([sys.executable, str(ROOT / "docs" / "draw_groups.py"), "--check"], ROOT)
    assert done.returncode == 0, done.stdout
