"""Rows are made side by side on the CPU where the memory allows it, and an interruption ends their children."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from read_exports import endless, subject

from converter.core.clock import Clock
from converter.core.errors import ChildError
from converter.core.limits import Limits, limited
from converter.core.turn import Turn, turns
from converter.pipeline.records import Records
from converter.proof import children, side_by_side
from converter.proof import rows as module
from converter.proof.plan import ProofOptions, Run, plan
from converter.proof.prove import prove
from converter.proof.rows import Rows

if TYPE_CHECKING:
    from conftest import Exported as Files


@pytest.mark.parametrize(
    ("devices", "memory", "together"),
    [(("cpu", "cpu"), 1 << 40, True), (("cpu",), 1 << 40, False), (("cpu", "cuda"), 1 << 40, False),
     (("cpu", "cpu"), 1 << 10, False)],
)  # fmt: skip
def test_rows_are_made_side_by_side_where_it_does_no_harm(
    exported: Files, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], memory: int, together: bool
) -> None:
    monkeypatch.setattr(side_by_side, "available", lambda: memory)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = subject(exported)
    runs = [Run(found.artifacts[0], "onnxruntime", device) for device in devices]
    with turns() as turn, Rows(found, runs, Clock(None), turn) as rows:
        assert (rows.turn.directory == turn.directory) is together
        assert rows._threads.count == (side_by_side.AT_ONCE if together else 1)


def test_a_child_with_a_time_that_the_user_set_waits_for_no_other(
    exported: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = subject(exported)
    runs, _ = plan(found.artifacts, ProofOptions())
    with turns() as turn, limited(Limits(seconds=60.0)), Rows(found, runs, Clock(None), turn) as rows:
        assert rows.turn.directory is None
        assert rows._threads.count == 1


def test_the_rows_are_in_the_order_of_the_formats_and_timed_alone(
    exported: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory of the turns reaches every child, and the one that takes longest begins first."""
    begun: list[tuple[str, Path | None]] = []
    original = module.run_artifact

    def run(given: Any, batches: tuple[int, ...], turn: Path | None) -> Any:
        begun.append((given.runtime, turn))
        return original(given, batches, turn)

    monkeypatch.setattr(module, "run_artifact", run)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    evidence = prove(subject(exported), ProofOptions(), Clock(None))
    assert evidence.verdict == "pass"
    assert [row.runtime for row in evidence.rows if row.runtime != "keras"] == ["onnxruntime", "litert", "tensorflow"]
    assert all(row.seconds for row in evidence.rows if row.runtime != "keras")
    assert {turn is not None for _, turn in begun} == {True}
    assert len({turn for _, turn in begun}) == 1


def test_a_row_that_fails_leaves_the_others_alone(exported: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    original = module.run_artifact

    def run(given: Any, *others: Any) -> Any:
        if given.runtime == "litert":
            raise ChildError("litert: its process was killed (SIGSEGV)")
        return original(given, *others)

    monkeypatch.setattr(module, "run_artifact", run)
    evidence = prove(subject(exported), ProofOptions(), Clock(None))
    assert evidence.verdict == "fail"
    assert {row.runtime: bool(row.error) for row in evidence.rows if row.runtime != "keras"} == {
        "onnxruntime": False, "litert": True, "tensorflow": False
    }  # fmt: skip


def test_an_interruption_ends_the_children(exported: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, started = endless(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "run_artifact", run)
    found = subject(exported)
    runs, _ = plan(found.artifacts, ProofOptions())
    bounds: Any = None
    begun: list[Any] = []

    def interrupted() -> None:
        with turns() as turn, Rows(found, runs, Clock(None), turn) as rows:
            begun.extend(rows.begin([(found, run, bounds) for run in runs]))
            assert started.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(each.done() for each in begun)
    assert not children.RUNNING


def test_a_file_that_cannot_be_read_has_no_record(exported: Files) -> None:
    """The manifest reports it, which reads the file again."""
    found = subject(exported)
    with closing(Records(found.directory, Turn(None))) as records:
        for artifact in found.artifacts:
            records.begin(artifact)
            records.begin(artifact)
        names = {name.partition("/")[0] for name in records.finish()}
        assert names == {artifact.path for artifact in found.artifacts}
        records.begin(replace(found.artifacts[0], path="absent"))
        assert records.finish() == {}
