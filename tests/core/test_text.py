"""Untrusted text in errors, tables and JSON: printable, and never a command for a CI."""

from __future__ import annotations

import io
import json

import pytest
from sample_reports import HOSTILE, hostile

from converter.core.errors import CnnExportError, InputError
from converter.core.jsonable import dumps
from converter.core.text import LINE_LENGTH, inert, printable
from converter.report.table import print_json, print_report

COMMANDS = ["::error::x", "  ::stop-commands::x", "\t::add-mask::a", "a ##[error]x", "###[group]", "##vso[task.x]y"]


def is_command(line: str) -> bool:
    """Whether a CI would execute `line`, as actions/runner reads it (ActionCommand.cs)."""
    return line.lstrip().startswith("::") or "##[" in line or "##vso[" in line


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_becomes_text_with_the_same_content(line: str) -> None:
    assert is_command(line)
    assert not is_command(inert(line))
    assert inert(line).replace(" ", "").replace("\t", "") == line.replace(" ", "").replace("\t", "")


@pytest.mark.parametrize("line", ["", "a::b", "12:30:01", "# [x]", "## heading", "a: ::"])
def test_other_text_is_unchanged(line: str) -> None:
    assert inert(line) == line


@pytest.mark.parametrize("name", [*HOSTILE, *COMMANDS, "a\n::error::b", "a\r::error::b", "a\u2028::error::b"])
def test_an_error_has_only_printable_lines_without_commands(name: str) -> None:
    message = str(InputError(f"model.keras: layer {name}: refused\n{name}\nsave it again"))
    lines = message.split("\n")
    assert message.startswith("model.keras: layer ")
    assert lines[-1] == "save it again"
    for line in lines:
        assert line.isprintable()
        assert len(line) <= LINE_LENGTH + 20
        assert not is_command(line)


def test_a_long_error_keeps_where_and_why() -> None:
    message = printable(f"{'directory/' * 100}model.onnx: {'n' * 10_000}: no such tensor")
    assert message.startswith("directory/directory/")
    assert message.endswith(": no such tensor")
    assert len(message) == LINE_LENGTH


def test_an_ordinary_error_is_unchanged_and_may_be_empty() -> None:
    assert str(InputError("a/b.keras: no such file\ndid you mean a/c.keras?")).splitlines()[1].startswith("did you")
    assert str(CnnExportError()) == ""


@pytest.mark.parametrize("width", [20, 60, 100])
@pytest.mark.parametrize("name", [*COMMANDS, "the output ::error::" * 20])
def test_no_line_of_the_table_is_a_command(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    file = io.StringIO()
    print_report(hostile(name), file)
    assert not [line for line in file.getvalue().splitlines() if is_command(line)]


@pytest.mark.parametrize("name", COMMANDS)
def test_json_keeps_the_name_and_contains_no_command(name: str) -> None:
    file = io.StringIO()
    print_json(hostile(name), file)
    assert json.loads(file.getvalue())["model"] == name
    assert not [line for line in file.getvalue().splitlines() if is_command(line)]
    assert json.loads(dumps({name: "\\##[x]"})) == {name: "\\##[x]"}
