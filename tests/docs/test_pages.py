"""README and docs/ against the code: links, options, names, exit codes, the form of the blocks. No TensorFlow."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from blocks import PAGES, ROOT, Block, blocks, matches, steps

import converter
from converter.cli.main import COMMANDS, cli
from converter.core import errors

README = ROOT / "README.md"
DOCS = ROOT / "docs"
SETUP = re.compile(r"^python3 -m venv \.[a-z]+ && .*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

ALL = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def generated() -> Iterator[object]:
    """docs/generated.py."""
    sys.path.insert(0, str(DOCS))
    try:
        import generated

        yield generated
    finally:
        sys.path.remove(str(DOCS))


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    assert not block.problem


def test_blocks_are_found() -> None:
    assert sum(not block.left_out for block in ALL) > 30
    assert Block(README, 1, "sh", "", "we do not run this").problem
    assert Block(README, 1, "", "", "").problem
    assert Block(README, 1, "bash", "", "").problem
    assert not Block(README, 1, "sh", "", "not run: needs a GPU").problem


def test_what_ci_runs_is_there() -> None:
    """Each line of such a block is a set-up line, which .ci/run takes from README, or a line of .ci/run itself."""
    script = [line.strip().removeprefix(".venv/bin/") for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    lines = [line for block in ALL if block.comment == "run by .ci/run" for line in block.text.splitlines()]
    assert not [line for line in lines if not SETUP.match(line) and line not in script]
    found = [line for line in README.read_text(encoding="utf-8").splitlines() if SETUP.match(line)]
    ends = ("pytest", "cnnexport resnet50 --format onnx", "cnnexport verify artifacts/resnet50 --runtime all")
    assert [sum(line.endswith(end) for line in found) for end in ends] == [1, 1, 1]
    assert set(found) <= set(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name) if name else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor:
            slugs = {_slug(title) for title in _HEADING.findall(place.read_text(encoding="utf-8"))}
            assert anchor in slugs, f"{page.name}: {target}"


def _slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_page_is_linked_from_readme_and_index() -> None:
    names = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    linked = {
        Path(target).stem for target in _LINK.findall(README.read_text(encoding="utf-8")) if target.endswith(".md")
    }
    assert linked == names
    listed = re.findall(r"^(\w+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) == names


def test_command_reference_has_every_option(generated: object) -> None:
    page = generated.filled((DOCS / "commands.md").read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    assert "{{" not in page
    sections = {name: rest for name, _, rest in (part.partition("\n") for part in page.split("\n## ")[1:])}
    assert set(sections) == set(COMMANDS)
    for name, command in COMMANDS.items():
        rows = [line for line in sections[name].splitlines() if line.startswith("| `-")]
        options = [each for each in command.params if isinstance(each, click.Option)]
        assert len(rows) == len(options) + 1  # and --help
        for option, row in zip(options, rows, strict=False):
            assert all(f"`{spelling}`" in row for spelling in option.opts), row
            assert f"`{option.envvar}`" in row, row
            assert (option.help or "").partition(" [default")[0].replace("|", r"\|") in row, row
    for option in cli.params:
        assert all(f"`{spelling}`" in page for spelling in option.opts)


def test_no_part_of_a_page_is_left_over(generated: object) -> None:
    asked = {name for page in PAGES for name in re.findall(r"^\{\{ (\w+) \}\}$", page.read_text(), re.MULTILINE)}
    assert asked == set(generated.PARTS)  # type: ignore[attr-defined]


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. (?:auto|py:)\w+:: converter\.(\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(converter.__all__)


def test_exit_codes_of_readme_are_those_of_the_errors() -> None:
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [cell.strip() for line in rows for cell in line.strip("|").split("|")]
    found = {int(cell) for cell in cells if cell.isdigit()}
    known = {each.exit_code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "exit_code")}
    assert found == {0, 130, *known}


def test_environment_variables_in_the_text_exist() -> None:
    known = {str(option.envvar) for command in COMMANDS.values() for option in command.params if option.envvar}
    paths = (path for place in ("converter", "zoo") for path in (ROOT / place).rglob("*.py"))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    for page in PAGES:
        for name in set(re.findall(r"\bCNNEXPORT_[A-Z_]+\b", page.read_text(encoding="utf-8"))) - known:
            assert f'"{name}"' in sources, f"{page.name}: {name}"


def test_console_output_is_compared() -> None:
    shown = "$ one\nerror 8.2e-06  1,024 ms\n…\npass: x\n$ two\n"
    (command, expected), (second, nothing) = steps(shown)
    assert (command, second, nothing) == ("one", "two", "")
    assert matches(expected, "error  3.1e-07 12 s\nanything\nat all\npass: x\n")
    assert not matches(expected, "error  3.1e-07 12 s\nanything\nfail: x\n")
    assert not matches(expected, "mistake  3.1e-07 12 s\npass: x\n")
    assert not matches(nothing, "a warning\n")
