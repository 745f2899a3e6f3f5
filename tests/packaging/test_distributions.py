"""What the two distributions hold: built here as their users' pip builds them, and looked into."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VERIFYING = ROOT / "converter" / "verify-only"
TRAINING = {"tensorflow", "keras", "tf2onnx", "onnx", "h5py"}
"""What only loading, rewriting and exporting need."""

EXPORTING = ("training", "sources", "rewrites", "tracing", "quantize", "formats")
"""Packages of the converter that only exporting needs."""

DATA = {
    "converter/fleets/templates/fleet.css",
    "converter/fleets/templates/fleet.html.j2",
    "converter/fleets/templates/fleet.js",
    "converter/data/imagenet.txt",
    "converter/py.typed",
    "converter/report/templates/report.css",
    "converter/report/templates/report.html.j2",
    "converter/runtimes/javascript/web/browser.html",
    "converter/runtimes/javascript/web/browser.mjs",
    "converter/runtimes/javascript/web/frame.mjs",
    "converter/runtimes/javascript/web/node.mjs",
}
ALIAS = {"cnnexport/__init__.py", "cnnexport/py.typed", "cnnexport/pytest_plugin.py"}


def tracked(*folders: str) -> set[str]:
    """The files below `folders` that a checkout has, but for what is not packaged."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    names = {path.relative_to(ROOT).as_posix() for path in found}
    other = ("converter/verify-only/", "docs/_build/")  # another distribution; what sphinx-build made
    return {name for name in names if "__pycache__" not in name and not name.startswith(other)}


def built(project: Path, target: str, directory: Path) -> Path:
    """The distribution `target`, "wheel" or "sdist", of the project in a folder, built by hatchling."""
    code = f"from hatchling.build import build_{target}; import sys; print(build_{target}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory / done.stdout.splitlines()[-1]


def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def project(path: Path) -> Any:
    return tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole() -> Any:
    return project(ROOT)


@pytest.fixture(scope="module")
def verifying() -> Any:
    return project(VERIFYING)


def distribution(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found[0]


def test_the_wheel_holds_the_code_its_data_and_nothing_else(tmp_path: Path) -> None:
    wheel = built(ROOT, "wheel", tmp_path)
    assert content(wheel) == tracked("converter", "zoo") | ALIAS
    assert content(wheel) >= DATA
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
        (entries,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "[pytest11]\ncnnexport = cnnexport.pytest_plugin" in archive.read(entries).decode()


def test_the_sdist_holds_what_a_checkout_needs(tmp_path: Path) -> None:
    with tarfile.open(built(ROOT, "sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= tracked("converter", "zoo", "tests", "docs") - {"tests/__pycache__"}
    assert names >= {
        "README.md",
        "LICENSE",
        ".github/actions/cnnexport/action.yml",
        ".gitlab/cnnexport.yml",
        ".pre-commit-hooks.yaml",
        "pyproject.toml",
        "artifacts/README.md",
        "converter/verify-only/hatch_build.py",
    }
    assert not [name for name in names if name.startswith((".venv", "dist/", "artifacts/resnet"))]


def test_the_verifying_wheel_has_no_code_that_only_exporting_needs(tmp_path: Path) -> None:
    found = content(built(VERIFYING, "wheel", tmp_path))
    assert not [name for name in found if name.startswith(("zoo/", *(f"converter/{each}/" for each in EXPORTING)))]
    expected = {name for name in tracked("converter") if name.split("/")[1] not in EXPORTING}
    assert found == expected | ALIAS


def test_the_verifying_wheel_is_the_same_from_its_sdist(tmp_path: Path) -> None:
    sdist = built(VERIFYING, "sdist", tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = built(unpacked, "wheel", tmp_path / "unpacked")
    assert content(again) == content(built(VERIFYING, "wheel", tmp_path))
    with zipfile.ZipFile(again) as archive:
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_dependencies_are_the_whole_installs_without_tensorflow(whole: Any, verifying: Any) -> None:
    expected = [each for each in whole["project"]["dependencies"] if distribution(each) not in TRAINING]
    assert verifying["project"]["dependencies"] == expected
    assert {distribution(each) for each in whole["project"]["dependencies"]} >= TRAINING


def test_extras_are_the_same_but_for_development(whole: Any, verifying: Any) -> None:
    extras = {
        key: value for key, value in whole["project"]["optional-dependencies"].items() if key not in ("dev", "docs")
    }
    own = verifying["project"]["optional-dependencies"]
    assert {name: [each.replace("cnnexport-verify[", "cnnexport[") for each in own[name]] for name in own} == extras


def test_command_and_version_are_the_same(whole: Any, verifying: Any) -> None:
    for key in ("scripts", "requires-python", "dynamic", "license"):
        assert verifying["project"][key] == whole["project"][key]
    assert verifying["build-system"] == whole["build-system"]
