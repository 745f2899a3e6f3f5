"""The shape of the code: what lies where, who may import whom, and that the rules which say so can fail."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "bench", "bundle", "cli", "core", "data", "fleets", "formats", "inspection", "pipeline", "prediction", "proof",
    "quantize", "report", "rewrites", "runtimes", "serving", "signing", "sources", "tracing", "training",
}  # fmt: skip
MOST_PARAMETERS, MOST_LINES = 6, 300
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[str, str]]:
    """Every module of converter and zoo by its path, with its text."""
    for folder in ("converter", "zoo"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_converter_holds_its_packages_and_nothing_else() -> None:
    found = {path.name for path in (ROOT / "converter").iterdir() if path.name != "__pycache__"}
    assert found == PACKAGES | {"verify-only", "__init__.py", "__main__.py", "py.typed"}


def test_tests_mirror_the_packages() -> None:
    assert {name for name in PACKAGES if not (ROOT / "tests" / name).is_dir()} == set()


def test_no_function_takes_more_than_six_parameters() -> None:
    many = []
    for path, text in sources():
        for node in (each for each in ast.walk(ast.parse(text)) if isinstance(each, Function)):
            arguments = node.args
            names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len(names) + (arguments.vararg is not None) + (arguments.kwarg is not None)
            count -= names[:1] in (["self"], ["cls"])
            if count > MOST_PARAMETERS:
                many.append(f"{path}: {node.name} takes {count}")
    assert many == []


def test_any_stands_under_a_name_that_says_what_it_is() -> None:
    """It may be what an alias of a module stands for, and what *args and **kwargs of a wrapper are."""
    bare: list[str] = []
    for path, text in sources():
        tree = ast.parse(text)
        allowed = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
        functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
        rest = (argument for each in functions for argument in (each.args.vararg, each.args.kwarg))
        named = {id(part) for node in (*allowed, *filter(None, rest)) for part in ast.walk(node)}
        found = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Any")
        bare.extend(f"{path}:{node.lineno}" for node in found if id(node) not in named)
    assert bare == []


def test_no_module_is_longer_than_300_lines() -> None:
    assert [path for path, text in sources() if len(text.splitlines()) > MOST_LINES] == []


def test_the_contracts_are_few_and_short() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = [part.strip().splitlines() for part in text.split("[[tool.importlinter.contracts]]")[1:]]
    assert 0 < len(contracts) <= 8
    assert max(map(len, contracts)) < 20
    kinds = [each["type"] for each in tomllib.loads(text)["tool"]["importlinter"]["contracts"]]
    assert (kinds.count("layers"), kinds.count("forbidden")) == (1, 3)


def linted(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=directory, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code and of the contracts."""
    directory = tmp_path_factory.mktemp("checkout")
    for folder in ("converter", "zoo"):
        shutil.copytree(ROOT / folder, directory / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", directory)
    return directory


ADDED = {
    "core may import numpy": ("core/new.py", "import numpy", ""),
    "core may not import TensorFlow, even in a function": (
        "core/new.py", "def late():\n    import tensorflow", "core: the standard library and numpy BROKEN",
    ),
    "a format needs no change of the contracts": (
        "formats/new.py", "from converter.tracing.naming import layer_of\nimport tensorflow", "",
    ),
    "formats do not import each other": (
        "formats/new.py", "from converter.formats import tflite", "formats know nothing of each other BROKEN",
    ),
    "a runtime needs no change of the contracts": (
        "runtimes/run_new.py", "from converter.runtimes.shared.installed import threads", "",
    ),
    "runtimes do not import each other": (
        "runtimes/run_new.py", "from converter.runtimes import run_ort", "runtimes know nothing of each other BROKEN",
    ),
    "the proof does not know Keras": ("proof/new.py", "import keras", "TensorFlow and Keras"),
    "nothing imports a floor above it": (
        "proof/new.py", "from converter.pipeline import ExportOptions", "the line: each floor",
    ),
    "a new package has to be given its floor": ("somewhere/__init__.py", "", "the line: each floor"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ADDED))
def test_a_new_module(name: str, checkout: Path) -> None:
    path, text, broken = ADDED[name]
    added = checkout / "converter" / path
    new = not added.parent.exists()
    added.parent.mkdir(exist_ok=True)
    added.write_text(text)
    try:
        done = linted(checkout)
    finally:
        added.unlink()
        if new:
            added.parent.rmdir()
    said = " ".join(done.stdout.split())
    if broken:
        assert done.returncode != 0
        assert broken in said
    else:
        assert done.returncode == 0, done.stdout
        assert "0 broken" in said
