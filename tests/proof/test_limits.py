"""A child that takes too much memory or time is stopped, and is a row that names its limit; the others go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import converter
from converter.cli.own_limit import limit_of
from converter.core import limits
from converter.core.errors import UsageError
from converter.core.limits import Limits, Watcher, available, limited, limits_for, limits_of
from converter.runtimes.javascript import packages

proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is looked up in /proc")
HOG = "x = bytearray(400 << 20); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(600)"
NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOG!r}])"


@pytest.mark.parametrize(
    ("program", "most", "reason"),
    [
        pytest.param(HOG, Limits(200 << 20, 60), "more than 200 MB of memory", marks=proc),
        pytest.param(NESTED, Limits(200 << 20, 60), "more than 200 MB of memory", marks=proc),
        ("import time; time.sleep(600)", Limits(None, 0.5), "no answer after 0 s"),
        ("pass", Limits(200 << 20, 60), ""),
    ],
)
def test_a_watcher_stops_a_process_at_its_limits(program: str, most: Limits, reason: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with process, Watcher(process, most) as watcher:
        process.wait(120)
    assert watcher.reason.startswith(reason)
    assert bool(watcher.reason) is bool(reason)


def test_limits_are_read_and_checked() -> None:
    assert limits_of("4G", 30) == Limits(4 << 30, 30.0)
    assert limits_of("1.5 MiB", None) == Limits(3 << 19)
    assert limits_of(None, None) == Limits()
    for memory, seconds in ((None, 0), (None, float("nan")), (None, "9"), ("4X", None), (1000, None), (True, None)):
        with pytest.raises(UsageError, match=r"--memory-limit|--timeout"):
            limits_of(memory, seconds)


def test_defaults_follow_the_file_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < limits_for(0).memory <= available()  # type: ignore[operator]
    monkeypatch.setattr(limits, "available", lambda: 100 << 30)
    assert limits_for(1 << 30) == Limits(24 << 30, 900 + (1 << 30) / 10_000_000)
    assert limits_for(100 << 30).memory == int(0.9 * (100 << 30))
    with limited(Limits(1 << 30, 5.0)):
        assert limits_for(1 << 40) == Limits(1 << 30, 5.0)


@pytest.mark.parametrize(
    ("line", "place"), [("0::/a/b", "a/memory.max"), ("9:cpu,memory:/a", "memory/a/memory.limit_in_bytes")]
)
def test_groups_of_both_versions_limit_the_memory(
    line: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text(f"{line}\n3:cpuset:/a\n")
    file = tmp_path / "fs" / place
    file.parent.mkdir(parents=True)
    file.write_text("123456789\n")
    monkeypatch.setattr(limits, "GROUPS", (tmp_path / "cgroup", tmp_path / "fs"))
    assert available() == 123456789
    file.write_text("max\n")
    assert available() > 123456789


@proc
def test_a_limit_costs_the_rows_that_hit_it(exported: Any) -> None:
    report = converter.verify(exported.directory, memory_limit="300M")
    rows = {row.subject: row for row in report.rows}
    assert "tensorflow on saved_model: more than 300 MB of memory" in rows["saved-model"].error
    assert rows["tflite"].passed
    assert rows["onnx"].passed
    assert report.exit_code == 8


def test_what_the_manifest_does_not_list_is_reported_and_never_loaded(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(exported.directory, copy)
    package = copy / "node_modules" / "onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "6.6.6"}')
    report = converter.verify(copy, runtimes="litert")
    assert [each for each in report.warnings if "not in its manifest" in each and "node_modules" in each]
    monkeypatch.delenv(packages.MODULES_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for place in (copy, copy / "saved_model"):
        (place / "node_modules").exists() or (place / "node_modules").symlink_to(copy / "node_modules")
        monkeypatch.chdir(place)
        assert packages.package_version("onnxruntime-web") is None
    shutil.copytree(copy / "node_modules", tmp_path / "node_modules")
    monkeypatch.chdir(tmp_path)
    assert packages.package_version("onnxruntime-web") == "6.6.6"


@pytest.mark.parametrize("command", ["verify", "bench"])
@pytest.mark.parametrize(("option", "value"), [("--memory-limit", "4X"), ("--memory-limit", "12"), ("--timeout", "0")])
def test_wrong_limits_are_wrong_usage(command: str, option: str, value: str, cnnexport: Any, exported: Any) -> None:
    outcome = cnnexport(command, exported.directory, option, value, "--quiet")
    assert outcome.code == 2, outcome
    assert option in outcome.stderr


def test_the_time_limit_is_an_option(cnnexport: Any, exported: Any) -> None:
    outcome = cnnexport("verify", exported.directory / "saved_model", "--timeout", "0.3", "--quiet", "--json")
    assert outcome.code == 8, outcome
    assert [row["error"] for row in outcome.json["rows"] if "(see --timeout)" in row["error"]]


@proc
def test_a_command_that_takes_too_much_itself_ends_and_leaves_what_was_there(exported: Any, tmp_path: Path) -> None:
    """Building what a file describes happens in the command's own process: TensorFlow alone takes more than this."""
    import keras

    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    target = Path(shutil.copytree(exported.directory, tmp_path / "target"))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    command = [sys.executable, "-m", "converter", "m.keras", "-o", target, "--format", "onnx"]
    done = subprocess.run(
        [*command, "--memory-limit", "150M"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 8, done
    assert "more than 150 MB of memory, its limit" in done.stderr
    assert "see --memory-limit" in done.stderr
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_the_own_limit_follows_a_foreign_file_and_the_machine(tmp_path: Path) -> None:
    (tmp_path / "small.keras").write_bytes(bytes(1 << 20))
    machine = int(0.9 * limits.available())
    assert limit_of({"model": str(tmp_path / "small.keras")}) == min(machine, (8 << 30) + (16 << 20))
    assert limit_of({"model": "resnet50"}) == machine
    assert limit_of({"model": str(tmp_path / "small.keras"), "memory_limit": "2G"}) == 2 << 30
