"""The verifying install: the same code as the whole one, and of its dependencies those that need no TensorFlow.

That it installs and verifies is shown by the line of README that `.ci/run` runs in a virtual environment of its own.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TRAINING = {"tensorflow", "keras", "tf2onnx", "onnx", "h5py"}
"""What only loading, rewriting and exporting need."""


def project(path: Path) -> Any:
    return tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole() -> Any:
    return project(ROOT)


@pytest.fixture(scope="module")
def verifying() -> Any:
    return project(ROOT / "converter" / "verify-only")


def distribution(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found[0]


def test_dependencies_are_the_whole_installs_without_tensorflow(whole: Any, verifying: Any) -> None:
    expected = [each for each in whole["project"]["dependencies"] if distribution(each) not in TRAINING]
    assert verifying["project"]["dependencies"] == expected
    assert {distribution(each) for each in whole["project"]["dependencies"]} >= TRAINING


def test_extras_are_the_same_but_for_development(whole: Any, verifying: Any) -> None:
    extras = dict(whole["project"]["optional-dependencies"])
    del extras["dev"]
    own = verifying["project"]["optional-dependencies"]
    assert {name: [each.replace("cnnexport-verify[", "cnnexport[") for each in own[name]] for name in own} == extras


def test_code_command_and_version_are_the_same(whole: Any, verifying: Any) -> None:
    for key in ("packages", "package-data", "dynamic"):
        assert verifying["tool"]["setuptools"][key] == whole["tool"]["setuptools"][key]
    for key in ("scripts", "requires-python", "dynamic"):
        assert verifying["project"][key] == whole["project"][key]
