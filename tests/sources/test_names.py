"""What a text means as a source, decided without Keras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converter import sources
from converter.core.data import SourceOptions
from converter.core.errors import InputError, UsageError
from converter.core.text import one_line
from converter.sources.names import directory_name, kind_of


def test_the_table_has_a_row_for_every_architecture() -> None:
    table = sources.zoo_table()
    assert [row["name"] for row in table] == sources.known_names()
    assert len(table) == 8
    rows = {row["name"]: row for row in table}
    assert list(rows["resnet50"]) == ["name", "input_shape", "classes", "parameters", "outputs"]
    assert rows["resnet50"]["parameters"] == 25_636_712
    assert rows["googlenet"]["outputs"] == ["main", "aux1", "aux2"]


def test_listing_loads_no_heavy_library() -> None:
    code = "import sys; from converter import sources; sources.zoo_table(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "keras", "tensorflow", "h5py"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("resnet50", "zoo"),
        ("keras:EfficientNetB0", "keras"),
        ("nets:build", "function"),
        ("my.nets:Builder.small", "function"),
        ("model.keras", "file"),
        ("MODEL.H5", "file"),
        ("dir/thing", "file"),
        ("./resnet50", "file"),
        ("resnet51", "unknown"),
        ("", "unknown"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_an_existing_file_without_suffix_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert kind_of("checkpoint") == "unknown"
    Path("checkpoint").touch()
    assert kind_of("checkpoint") == "file"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("resnet5O", "did you mean resnet50?"),
        ("Xeption", "did you mean xception?"),
        ("zzzz", "the zoo has resnext50, "),
    ],
)
def test_unknown_names_suggest_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        sources.load(text, SourceOptions())
    assert hint in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_mistyped_command_is_recognised() -> None:
    with pytest.raises(UsageError, match="the command `cnnexport verify`"):
        sources.load("verfy", SourceOptions(), commands=["verify", "list"])


@pytest.mark.parametrize(
    ("text", "options", "spelling"),
    [
        ("resnet18", SourceOptions(kwargs={"a": 1}), "--kwargs"),
        ("resnet18", SourceOptions(builder="a:b"), "--builder"),
        ("a.keras", SourceOptions(classes=3), "--classes"),
        ("a.keras", SourceOptions(weights="w.h5"), "--weights"),
        ("a.keras", SourceOptions(kwargs={"a": 1}), "--kwargs"),
        ("nets:build", SourceOptions(classes=3), "--classes"),
        ("keras:VGG16", SourceOptions(builder="a:b"), "--builder"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(text: str, options: SourceOptions, spelling: str) -> None:
    with pytest.raises(UsageError, match=f"^{spelling}: "):
        sources.load(text, options)


def test_missing_files_suggest_what_lies_beside(tmp_path: Path) -> None:
    (tmp_path / "model.keras").touch()
    with pytest.raises(InputError, match=r"no such file\ndid you mean .*model\.keras"):
        sources.load(str(tmp_path / "modle.keras"), SourceOptions())


def test_names_are_fit_for_a_directory() -> None:
    assert directory_name("../../etc/passwd") == "etc_passwd"
    assert directory_name("..") == "model"
    assert directory_name("my model (1)") == "my_model_1"


def test_one_line_is_one_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("x" * 500)) == 200
