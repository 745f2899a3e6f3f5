"""A disk that refuses to write ends in exit 7 with the path and the reason; what was there stays as it was."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import converter
from converter.cli import main
from converter.core.disk import output_error, writing
from converter.core.errors import InputError, OutputError

resource = pytest.importorskip("resource", reason="limits of files are POSIX's")
CODES = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EXDEV, errno.ENAMETOOLONG, errno.EFBIG, errno.EIO,
)  # fmt: skip
MODEL = "tiny_nets:two_heads"


def content(directory: Path) -> dict[str, str]:
    return {
        str(each.relative_to(directory)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(directory.rglob("*"))
        if each.is_file()
    }


@contextlib.contextmanager
def small_files(most: int) -> Iterator[None]:
    """Files of this process and its children may not grow beyond `most` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `place`; where none can be mounted, files may not grow beyond that."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        with small_files(size):
            yield
        return
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files."""
    place = tmp_path / "temporary"
    place.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize("most", [1, 4_000, 12_000, 40_000])
def test_files_that_cannot_grow(most: int, tmp_path: Path, nets: Path, temporary: Path, exported: Any) -> None:
    import shutil

    target = tmp_path / "two_heads"
    shutil.copytree(exported.directory, target)
    before = content(target)
    with small_files(most), pytest.raises(OutputError) as found:
        converter.export(MODEL, output=target)
    assert "File too large" in str(found.value)
    assert content(target) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["temporary", "two_heads"]
    assert not [each for each in temporary.iterdir() if not each.name.startswith("__autograph")]


@pytest.mark.parametrize("size", [8 << 10, 28 << 10, 64 << 10, 128 << 10])
def test_file_systems_that_fill_up(size: int, tmp_path: Path, nets: Path) -> None:
    place = tmp_path / "disk"
    with small_disk(place, size):
        with pytest.raises(OutputError, match="disk") as found:
            converter.export(MODEL, output=place / "deep" / "two_heads")
        assert "No space left" in str(found.value) or "File too large" in str(found.value)
        assert not list(place.iterdir())


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_each_refusal_has_its_exit(
    code: int, tmp_path: Path, nets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code), "some/file")

    monkeypatch.setattr("converter.pipeline.stages.write_golden", refuse)
    monkeypatch.setattr(sys, "argv", ["cnnexport", MODEL, "-f", "tflite", "--quiet", "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 7
    said = capsys.readouterr().err
    assert os.strerror(code) in said
    assert "some/file" in said
    assert not list(tmp_path.iterdir())


def test_what_libraries_say_of_a_full_disk() -> None:
    texts = (
        "{{function_node}} /x/variables/variables.data: No space left on device [Op:SaveV2]",
        "Unable to synchronously close file (errno = 28, error message = 'No space left on device')",
    )
    for text in texts:
        found = output_error(RuntimeError(text), "there")
        assert found is not None
        assert "there" in str(found)
    outer = ValueError("cannot convert")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert output_error(outer) is not None
    assert output_error(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")) is not None
    assert output_error(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None
    assert output_error(ValueError("space")) is None


def test_other_errors_pass() -> None:
    with pytest.raises(InputError, match="unreadable"), writing("there"):
        raise InputError("unreadable")
    unreadable = InputError("denied")
    unreadable.__cause__ = PermissionError(errno.EACCES, "Permission denied", "input")
    with pytest.raises(InputError, match="denied"), writing("there"):
        raise unreadable
    with pytest.raises(ValueError, match="else"), writing("there"):
        raise ValueError("else")


def test_a_child_reports_a_full_disk() -> None:
    program = (
        "import errno; from converter.proof.child import main\ndef f(_): raise OSError(errno.ENOSPC, 'full')\nmain(f)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"{}", capture_output=True, check=True)
    assert b'"error": "OutputError"' in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's device that is always full")
def test_standard_output_that_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "converter", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 7, done.stderr


def test_temporary_files_go_with_the_run_and_those_of_killed_runs_with_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys, tempfile; from converter.cli.temporary import own_temporary_files\n"
        "with own_temporary_files():\n"
        "    tempfile.mkstemp()\n"
        "    print(tempfile.gettempdir(), flush=True)\n"
        "    if sys.argv[1:]: os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def run(*arguments: str) -> Path:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return Path(done.stdout.strip())

    killed = run("killed")
    assert killed.parent == tmp_path
    assert list(killed.iterdir())
    (tmp_path / "other").mkdir()
    assert run().parent == tmp_path
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
