"""The usage of the command line: help, completion, environment variables, forms of a model, one JSON document."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import zoo
from converter.cli.main import COMMANDS, cli
from converter.cli.options import variable_of
from converter.runtimes import RUNTIMES


def test_without_arguments_the_help_is_printed(cnnexport: Callable[..., Any]) -> None:
    outcome = cnnexport()
    assert outcome.code == 2
    assert outcome.stderr == ""
    assert outcome.stdout == cnnexport("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "help_of"),
    [
        (("verify",), "cnnexport verify"),
        (("resnet50", "--opset", "99"), "cnnexport export"),
        (("export",), "cnnexport export"),
        (("rewrite", "resnet50"), "cnnexport rewrite"),
        (("runtimes", "--nonsense"), "cnnexport runtimes"),
    ],
)
def test_a_usage_error_points_to_the_help_of_its_command(
    arguments: tuple[str, ...], help_of: str, cnnexport: Callable[..., Any]
) -> None:
    outcome = cnnexport(*arguments)
    assert outcome.code == 2
    assert outcome.stderr.splitlines()[-1] == f"  see: {help_of} --help"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_option_has_an_environment_variable(name: str) -> None:
    options = [each for each in COMMANDS[name].params if isinstance(each, click.Option)]
    assert options
    for each in options:
        assert each.envvar == variable_of(each.opts)
        assert str(each.envvar).startswith("CNNEXPORT_")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CNNEXPORT_OPSET", "abc", "$CNNEXPORT_OPSET: --opset abc: not a whole number"),
        ("CNNEXPORT_OPSET", "12", "$CNNEXPORT_OPSET: --opset 12: out of range, must be 13 to 18"),
        ("CNNEXPORT_LAYOUT", "hwc", "$CNNEXPORT_LAYOUT: --layout hwc is not one of"),
        ("CNNEXPORT_FORMAT", "onxx", "--format onxx: no such format"),
        ("CNNEXPORT_INPUT_SHAPE", "big", "--input-shape big: not a shape"),
    ],
)
def test_a_wrong_environment_variable_is_named(
    variable: str,
    value: str,
    words: str,
    cnnexport: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(variable, value)
    outcome = cnnexport("resnet18")
    assert outcome.code == 2
    assert words in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_environment_variables_are_the_options(
    cnnexport: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def fake(model: str, **given: Any) -> None:
        seen.update(given, model=model)
        raise SystemExit(0)

    monkeypatch.setattr("converter.pipeline.export.export", fake)
    for name, value in (("FORMAT", "onnx,tflite"), ("OPSET", "15"), ("LAYOUT", "NCHW"), ("FORCE", "1")):
        monkeypatch.setenv(f"CNNEXPORT_{name}", value)
    assert cnnexport("resnet18", "--opset", "16").code == 0
    assert (seen["model"], seen["formats"], seen["opset"], seen["layout"], seen["force"]) == (
        "resnet18", ("onnx,tflite",), 16, "nchw", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ("cnnexport", "res", [name for name in zoo.MODELS if name.startswith("res")]),
        ("cnnexport", "ver", ["verify"]),
        ("cnnexport resnet50 --format", "", ["onnx", "tflite", "saved-model"]),
        ("cnnexport resnet50 --format", "onnx,t", ["onnx,tflite"]),
        ("cnnexport resnet50 --format", "T", ["tflite"]),
        ("cnnexport export --layout", "", ["nhwc", "nchw"]),
        ("cnnexport verify DIR --runtime", "openv", ["openvino"]),
        ("cnnexport verify DIR --runtime", "", [*RUNTIMES, "all"]),
        ("cnnexport rewrite", "vgg", ["vgg16"]),
    ],
)
def test_the_shell_completes(words: str, incomplete: str, expected: list[str]) -> None:
    from click.shell_completion import BashComplete

    completion = BashComplete(cli, {}, "cnnexport", "_CNNEXPORT_COMPLETE")
    found = completion.get_completions(words.split()[1:], incomplete)
    assert [each.value for each in found] == expected


def test_a_file_is_completed_if_no_model_of_the_zoo_matches() -> None:
    from click.shell_completion import BashComplete

    (found,) = BashComplete(cli, {}, "cnnexport", "_CNNEXPORT_COMPLETE").get_completions(["export"], "./models/m")
    assert (found.type, found.value) == ("file", "./models/m")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m converter ARGUMENTS` in a process and a directory."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    command = [sys.executable, "-P", "-m", "converter", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=cwd, check=False)


def test_python_m_converter(tmp_path: Path) -> None:
    done = run("list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in json.loads(done.stdout)] == list(zoo.MODELS)


LOUD = """
import os
print("imported")
os.write(1, b"from a native library\\n")

def build():
    print("building")
    import tiny_nets
    return tiny_nets.two_heads()
"""


def test_one_document_from_a_module_that_prints_and_a_function_by_its_file(nets: Path, tmp_path: Path) -> None:
    (tmp_path / "my nets").mkdir()
    (tmp_path / "my nets" / "loud.py").write_text(LOUD)
    paths = os.pathsep.join([str(nets), *filter(None, sys.path)])
    done = run("my nets/loud.py:build", "-f", "ONNX", "--samples", "2", "--json", cwd=tmp_path, PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "pass"
    for text in ("imported", "from a native library", "building"):
        assert text in done.stderr
    assert (tmp_path / "artifacts/build/model.onnx").is_file()


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("nowhere.py:build", 3, "no such file: nowhere.py"),
        ("broken.py:build", 3, "importing broken.py raised ZeroDivisionError"),
        ("fine.py:absent", 3, "fine.py has no absent"),
        ("zoo.mine:build", 3, "cnnexport has a package zoo too"),
        ("zoo:build", 3, "cnnexport has a package zoo too"),
        ("converter.mine:build", 3, "cnnexport has a package converter too"),
    ],
)
def test_functions_that_cannot_be_found(source: str, code: int, words: str, cnnexport: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "fine.py").write_text("def build(): return None")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/mine.py").write_text("def build(): return None")
    outcome = cnnexport(source, "-f", "onnx")
    assert outcome.code == code
    assert words in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 3


def test_a_package_of_the_user_that_hides_ours(tmp_path: Path) -> None:
    """A directory on PYTHONPATH takes precedence over the installed packages."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/__init__.py").write_text("")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = run("list", cwd=tmp_path, PYTHONPATH=paths)
    assert done.returncode == 2
    assert "the package zoo of cnnexport is hidden by another package" in done.stderr
    (tmp_path / "converter").mkdir()
    (tmp_path / "converter/__init__.py").write_text("")
    code = "import sys; sys.argv = ['cnnexport', 'list']; from cnnexport import main; main()"
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 2
    assert "another package named converter" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resnet18", "--trust"), "--trust: does not apply here"),
        (("resnet18", "--custom-objects", "m"), "--custom-objects: does not apply here"),
        (("keras:MobileNet", "--trust"), "--trust: does not apply here"),
        (("tiny_nets:two_heads", "--custom-objects", "m"), "--custom-objects: does not apply here"),
        (("w.h5", "--builder", "a:b", "--trust"), "--trust: has no effect with --builder"),
        (("w.h5", "--builder", "a:b", "--custom-objects", "m"), "--custom-objects: has no effect with --builder"),
    ],
)
def test_options_without_effect_are_errors(
    arguments: tuple[str, ...], words: str, cnnexport: Callable[..., Any]
) -> None:
    outcome = cnnexport(*arguments)
    assert outcome.code == 2
    assert words in outcome.stderr


def test_rewrite_overwrites_only_with_force(cnnexport: Callable[..., Any], tmp_path: Path, nets: Path) -> None:
    import tiny_nets

    tiny_nets.two_heads().save(tmp_path / "source.keras")
    before = (tmp_path / "source.keras").read_bytes()
    (tmp_path / "other.keras").write_text("mine")
    (tmp_path / "link.keras").symlink_to("source.keras")
    for name in ("source.keras", "link.keras"):
        outcome = cnnexport("rewrite", "source.keras", "-o", name, "--force")
        assert outcome.code == 7
        assert "is the model to rewrite" in outcome.stderr
    outcome = cnnexport("rewrite", "source.keras", "-o", "other.keras")
    assert outcome.code == 7
    assert "already exists" in outcome.stderr
    assert (tmp_path / "other.keras").read_text() == "mine"
    assert (tmp_path / "source.keras").read_bytes() == before
    assert cnnexport("rewrite", "source.keras", "-o", "other.keras", "--force").code == 0
    assert (tmp_path / "other.keras").read_bytes()[:2] == b"PK"


def test_the_export_of_another_source_is_refused(
    cnnexport: Callable[..., Any], exported: Any, nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `force` and a named directory change is shown in tests/pipeline/test_api.py."""
    shutil.copytree(exported.directory, tmp_path / "artifacts" / "two_heads")
    (tmp_path / "copied_nets.py").write_text((nets / "tiny_nets.py").read_text())
    monkeypatch.setattr("converter.pipeline.export.write_artifacts", lambda *given: pytest.fail("the work began"))
    refused = cnnexport("copied_nets.py:two_heads", "-f", "onnx", "--quiet")
    assert refused.code == 7
    assert "contains the export of another source (function tiny_nets:two_heads)" in refused.stderr
    assert "--force" in refused.stderr
