"""The list of a fleet: what TOML files and patterns mean, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.core.errors import InputError, UsageError
from converter.fleets.listing import option_names, read_list, title_of, to_verify


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return str(path)


def test_defaults_overrides_and_matrix(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"a")
    text = """
output = "out"
[defaults]
format = ["onnx", "tflite"]
samples = 3
[matrix]
layout = ["nhwc", "nchw"]
[[model]]
source = "a.keras"
samples = 4
logits = true
trust = false
[[model]]
source = "nets.py:build"
name = "vision/small"
kwargs = { classes = 10 }
matrix = { opset = [15, 17], layout = ["nchw"] }
"""
    tasks, output = read_list([written(tmp_path, text)])
    assert output == tmp_path / "out"
    assert [each.name for each in tasks] == ["a-nhwc", "a-nchw", "vision/small-opset-15", "vision/small-opset-17"]
    assert tasks[0].options == (
        ("--format", "onnx"), ("--format", "tflite"), ("--layout", "nhwc"), ("--logits", None), ("--samples", "4"),
    )  # fmt: skip
    assert dict(tasks[3].options)["--kwargs"] == '{"classes": 10}'
    assert dict(tasks[3].options)["--layout"] == "nchw"
    assert tasks[3].source == f"{tmp_path}/nets.py:build"
    assert tasks[3].arguments[:2] == ["export", tasks[3].source]


def test_a_missing_file_among_many_is_a_task_with_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"a")
    text = '[[model]]\nsource = "a.keras"\n[[model]]\nsource = "absent.keras"\n[[model]]\nsource = "none-*.h5"\n'
    tasks, _ = read_list([written(tmp_path, text)])
    assert [bool(each.problem) for each in tasks] == [False, True, True]
    assert "absent.keras" in tasks[1].problem


def test_patterns(tmp_path: Path) -> None:
    for name in ("b.keras", "a.keras", "deep/c.keras"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    tasks, output = read_list([f"{tmp_path}/**/*.keras", "resnet18", "keras:MobileNet"])
    assert [each.name for each in tasks] == ["a", "b", "c", "resnet18", "MobileNet"]
    assert output is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", "fleet.toml: unknown key 'colour'"),
        ("[defaults]\nsample = 3", "defaults: unknown key 'sample'\ndid you mean samples?"),
        ('[defaults]\noutput = "x"', "defaults: unknown key 'output'"),
        (
            '[[model]]\nsource = "resnet18"\ninput_shape = "8x8x3"',
            "unknown key 'input_shape'\ndid you mean input-shape?",
        ),
        ('[[model]]\nsource = "resnet18"\nmatrix = { opsets = [15] }', "matrix: unknown key 'opsets'"),
        ('[[model]]\nsource = "resnet18"\nmatrix = { opset = 15 }', "matrix: opset: expected a list of values"),
        ('[[model]]\nsource = "resnet18"\nmatrix = { opset = [] }', "matrix: opset: expected a list of values"),
        ("[[model]]\nopset = 15", "model 1: source: expected a model"),
        ("[[model]]\nsource = 7", "model 1: source: expected a model"),
        ('[[model]]\nsource = "resnet18"\nname = "../x"', "model 1: name: expected a relative path"),
        ('[[model]]\nsource = "resnet18"\nopset = 2020-01-01', "opset: expected text, a number"),
        ('[model]\nsource = "resnet18"', "model: expected tables"),
        ("output = 3", "output: expected the path of a directory"),
        ("defaults = 3", "defaults: expected a table"),
        ("", "the fleet has no models"),
        ('[[model]]\nsource = "resnet18"\n[[model]]\nsource = "RESNET18"', "the same output twice, of resnet18"),
        (
            '[[model]]\nsource = "a:f"\nname = "x"\n[[model]]\nsource = "a:g"\nname = "x/y"',
            "x/y: the same output twice, of a:f and of a:g",
        ),
    ],
)
def test_bad_lists_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_list([written(tmp_path, text)])
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[[model", "not readable as TOML"), (b"\xff\xfe", "not readable as TOML"), (b"a = " + b"[" * 5000, "TOML")],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_list([str(path)])
    with pytest.raises(InputError, match="No such file"):
        read_list([str(tmp_path / "absent.toml")])


def test_keys_are_the_options_of_export() -> None:
    from converter.cli.export import command

    options = {max(each.opts, key=len).removeprefix("--") for each in command.params}
    assert set(option_names()) <= options
    assert {"format", "opset", "weights", "kwargs", "baseline"} <= set(option_names())


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("nets/a b.keras", "a-b"), ("my.module:build", "build"), ("x/y.py:Net.make", "Net.make"),
        ("keras:ResNet50", "ResNet50"), ("../..", "model"), ("resnet18", "resnet18"),
    ],
)  # fmt: skip
def test_names(source: str, title: str) -> None:
    assert title_of(source) == title


def test_directories_to_verify(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("")
    tasks = to_verify([f"{tmp_path}/*", f"{tmp_path}/absent"], ["onnxruntime"])
    assert [(Path(each.source).name, bool(each.problem)) for each in tasks] == [("a", False), ("absent", True)]
    assert tasks[0].arguments == ["verify", f"{tmp_path}/a", "--runtime", "onnxruntime"]
    with pytest.raises(UsageError, match="no directories"):
        to_verify([])
