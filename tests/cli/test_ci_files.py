"""The action, the hook and the template for CI: they parse, take what the command has, and their scripts run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.cli import changed
from converter.cli.export import command

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github/actions/cnnexport/action.yml"
GITLAB = ROOT / ".gitlab/cnnexport.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
OPTIONS = {name for each in command.params for name in each.opts}


def action() -> Any:
    return yaml.safe_load(ACTION.read_text())


def test_the_action_passes_its_inputs_as_variables() -> None:
    """An input that were put into the script itself could end it and begin another one."""
    found = action()
    used = re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", ACTION.read_text())
    assert set(used) == set(found["inputs"])
    for step in found["runs"]["steps"]:
        assert "${{" not in step["run"]
        for name in re.findall(r"\$\{?(GIVEN_\w+)", step["run"]):
            assert name in step["env"]


@pytest.mark.parametrize("path", [ACTION, GITLAB], ids=lambda path: path.name)
def test_options_exist(path: Path) -> None:
    words = set(re.findall(r"(?<=[\s(])--[a-z][a-z-]+", path.read_text())) - {"--quiet"}
    assert words
    assert words <= OPTIONS


def environment(place: Path, **given: str) -> dict[str, str]:
    """The variables of a step: cnnexport and python are those of this environment."""
    tools = place / "bin"
    tools.mkdir(exist_ok=True)
    for name, words in (("cnnexport", "-P -m converter"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (tools / name).chmod(0o755)
    path = os.pathsep.join(filter(None, sys.path))
    foreign = ("GITHUB_", "CNNEXPORT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **kept, "PATH": f"{tools}{os.pathsep}{kept['PATH']}", "PYTHONPATH": path, "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(place / "output"), "GITHUB_STEP_SUMMARY": str(place / "summary.md"), **given,
    }  # fmt: skip


def run_action(place: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The steps of the action but for the installation, as the runner starts them."""
    found = action()
    values = {name: inputs.get(name, each.get("default", "")) for name, each in found["inputs"].items()}
    (step,) = (each for each in found["runs"]["steps"] if each.get("id") == "export")
    given = {name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda one: values[one[1]], text)
             for name, text in step["env"].items()}  # fmt: skip
    script = place / "step.sh"
    script.write_text(step["run"])
    shell = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)]
    return subprocess.run(
        shell, cwd=place, env=environment(place, **given), capture_output=True, text=True, check=False
    )


def outputs(place: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (place / "output").read_text().splitlines())


def test_the_action_reports_an_input_that_is_none(tmp_path: Path) -> None:
    done = run_action(tmp_path, model="$(touch x); absent.keras", output="art")
    assert done.returncode == 3, done.stderr
    assert "::error title=cnnexport::no report, exit code 3" in done.stdout
    assert outputs(tmp_path) == {"directory": "art", "exit-code": "3"}
    assert not (tmp_path / "x").exists()
    assert "no report" in (tmp_path / "summary.md").read_text()


@pytest.mark.slow
def test_the_action_exports_annotates_and_summarizes(tmp_path: Path, nets: Path) -> None:
    (tmp_path / "tiny_nets.py").write_text((nets / "tiny_nets.py").read_text())
    done = run_action(tmp_path, model="tiny_nets.py:two_heads", formats="onnx", output="art")
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path) == {"directory": "art", "exit-code": "0"}
    assert "| onnx | float32 | onnxruntime |" in (tmp_path / "summary.md").read_text()
    assert ET.parse(tmp_path / "reports/report.xml").getroot().get("failures") == "0"
    (tmp_path / "output").unlink()
    done = run_action(tmp_path, model="tiny_nets.py:two_heads", formats="onnx", output="art", tolerance="1e-12")
    assert done.returncode == 1
    assert "::error title=two_heads%3A parity::onnx in onnxruntime" in done.stdout + done.stderr
    assert outputs(tmp_path) == {"directory": "art.unproven", "exit-code": "1"}
    assert json.loads((tmp_path / "reports/report.json").read_text())["verdict"] == "fail"


@pytest.mark.slow
def test_the_gitlab_job_runs(tmp_path: Path, nets: Path) -> None:
    (tmp_path / "tiny_nets.py").write_text((nets / "tiny_nets.py").read_text())
    job = yaml.safe_load(GITLAB.read_text())[".cnnexport"]
    given = {**job["variables"], "MODEL": "tiny_nets.py:two_heads", "FORMATS": "onnx"}
    text = "set -eo pipefail\n" + "\n".join(job["script"])
    done = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, env=environment(tmp_path, **given), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / job["artifacts"]["reports"]["junit"]).is_file()
    assert (tmp_path / given["OUTPUT"] / "model.onnx").is_file()


def test_the_hook_verifies_each_directory_once(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (hook,) = yaml.safe_load(HOOKS.read_text())
    assert hook["entry"] == "python -m converter.cli.changed"
    names = [path.relative_to(copied.parent).as_posix() for path in copied.rglob("*") if path.is_file()]
    matched = [name for name in names if re.search(hook["files"], name)]
    assert {Path(each).name for each in matched} >= {"manifest.json", "model.onnx", "model.tflite", "saved_model.pb"}
    assert not re.search(hook["files"], "src/main.py")
    files = [str(copied.parent / name) for name in matched]
    assert changed.directories([*files, "pyproject.toml"]) == [copied]
    (copied / "model.tflite").write_bytes(b"damaged")
    assert changed.main(files) == 3
    assert "model.tflite" in capsys.readouterr().err
    assert changed.main(["pyproject.toml"]) == 0


def test_the_hook_passes_what_is_proven(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert changed.main([str(copied / "model.onnx")]) == 0
    assert capsys.readouterr().out == f"{copied}: pass\n"


def test_the_log_has_a_line_for_each_stage(copied: Path, cnnexport: Callable[..., Any]) -> None:
    assert cnnexport("verify", copied / "model.onnx", "--log", "log.jsonl", "-q").code == 0
    assert cnnexport("verify", "absent", "--log", "log.jsonl", "-q").code == 3
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    kinds = [each["event"] for each in events]
    assert kinds[-2:] == ["model-ended", "error"]
    assert {"read", "controls"} <= {each.get("stage") for each in events}
    assert all(isinstance(each["time"], float) for each in events)
    assert cnnexport("verify", copied, "--log", "absent/log", "-q").code == 7


def test_the_summary_of_a_report(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from converter.report import markdown

    assert markdown.main(copied / "report.json") == 0
    assert capsys.readouterr().out.startswith("### two\\_heads: pass")
    (tmp_path / "x.json").write_text("[]")
    assert markdown.main(tmp_path / "x.json") == 3
    assert markdown.main(tmp_path / "absent.json") == 3
    assert markdown.cell("a|b<i>\n[x](y)") == "a\\|b\\<i\\> \\[x\\](y)"
