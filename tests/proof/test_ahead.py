"""Artifacts that are run before the proof: what they returned is taken where it is that of the same inputs, only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from read_exports import endless, subject

from converter.core.clock import Clock
from converter.core.data import Golden
from converter.core.errors import ChildError
from converter.core.limits import Limits, limited
from converter.core.turn import Turn, turns
from converter.proof import ahead as module
from converter.proof import children, rows
from converter.proof.ahead import Ahead
from converter.proof.exported import Exported
from converter.proof.plan import ProofOptions, plan
from converter.proof.protocol import batches_of
from converter.proof.prove import prove
from converter.proof.rows import Rows, subject_of

if TYPE_CHECKING:
    from conftest import Exported as Files


@pytest.fixture
def found(exported: Files, monkeypatch: pytest.MonkeyPatch) -> Exported:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return subject(exported)


@pytest.fixture
def turn() -> Iterator[Turn]:
    with turns() as made:
        yield made


def begin(ahead: Ahead, found: Exported) -> None:
    for artifact in found.artifacts:
        ahead.begin(found.directory, artifact, found.interface, found.golden.inputs)


def no_run(*_: object) -> Any:
    pytest.fail("an artifact was run again")


def test_the_proof_takes_what_was_run_ahead(found: Exported, turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prove(found, ProofOptions(), Clock(None))
    monkeypatch.setattr(rows, "run_artifact", no_run)
    clock = Clock(None)
    with Ahead(turn) as ahead:
        begin(ahead, found)
        time.sleep(2)
        evidence = prove(found, ProofOptions(), clock, turn, ahead)
    assert evidence.verdict == expected.verdict == "pass"
    assert clock.timings["verify saved-model in tensorflow"] > 1  # what it took before counts
    assert [row.outputs for row in evidence.rows] == [row.outputs for row in expected.rows]
    assert all(row.seconds and row.facts["batches"] for row in evidence.rows if row.runtime != "keras")
    assert not children.RUNNING


def test_latencies_wait_for_the_work_of_the_caller(found: Exported, turn: Turn) -> None:
    artifact = found.artifacts[0]
    with Ahead(turn) as ahead:
        with turn.working():
            ahead.begin(found.directory, artifact, found.interface, found.golden.inputs)
            result = ahead._begun[artifact.path].result
            with pytest.raises(TimeoutError):
                result.result(timeout=4)
        assert result.result(timeout=30)[0].answer.latency_seconds > 0


def other_inputs(golden: Golden) -> Golden:
    return replace(golden, inputs={name: array.copy() for name, array in golden.inputs.items()})


def resized(golden: Golden) -> Golden:
    return replace(golden, resized=replace(golden))


@pytest.mark.parametrize("change", [other_inputs, resized])
def test_what_was_run_on_other_inputs_is_not_taken(found: Exported, turn: Turn, change: Any) -> None:
    run = plan(found.artifacts, ProofOptions())[0][0]
    batches = batches_of(found.golden.inputs)
    with Ahead(turn) as ahead:
        begin(ahead, replace(found, artifacts=(run.artifact,)))
        assert ahead.taken(subject_of(found, run), batches, change(found.golden)) is None
        assert ahead.taken(subject_of(found, run), batches_of(found.golden.inputs, mixes=True), found.golden) is None
        newer = replace(run, artifact=replace(run.artifact, size=run.artifact.size + 1))
        assert ahead.taken(subject_of(found, newer), batches, found.golden) is None
        assert ahead.taken(subject_of(found, replace(run, runtime="openvino")), batches, found.golden) is None
        done = ahead.taken(subject_of(found, run), batches, found.golden)
        assert done is not None
        assert len(next(iter(done.read().largest.values()))) == found.golden.samples
        assert ahead.taken(subject_of(found, run), batches, found.golden) is None


def test_the_row_of_a_runtime_that_crashed_ahead_says_so(
    found: Exported, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashed(*_: object) -> Any:
        raise ChildError("onnxruntime on model.onnx: its process was killed (SIGSEGV)")

    monkeypatch.setattr(module, "run_artifact", crashed)
    monkeypatch.setattr(rows, "run_artifact", no_run)
    with Ahead(turn) as ahead:
        begin(ahead, found)
        evidence = prove(found, ProofOptions(), Clock(None), turn, ahead)
    assert evidence.verdict == "fail"
    assert all("SIGSEGV" in row.error for row in evidence.rows if row.runtime != "keras")


def test_nothing_is_run_ahead_where_nothing_is_run_side_by_side(found: Exported, turn: Turn) -> None:
    for given in (Turn(None), turn):
        with limited(Limits(seconds=60.0) if given is turn else Limits()), Ahead(given) as ahead:
            begin(ahead, found)
            assert not ahead._begun


def test_what_nobody_took_is_ended(
    found: Exported, turn: Turn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where the proof is interrupted while it waits for it."""
    run, started = endless(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "run_artifact", run)
    runs, _ = plan(found.artifacts, ProofOptions())
    bounds: Any = None

    def interrupted() -> None:
        with Ahead(turn) as ahead, Rows(found, runs, Clock(None), turn, ahead) as making:
            begin(ahead, found)
            making.begin([(found, run, bounds) for run in runs])
            assert started.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not children.RUNNING


def test_the_inputs_are_those_of_the_first_artifact(found: Exported, turn: Turn) -> None:
    """One file serves all artifacts of an export."""
    with Ahead(turn) as ahead:
        begin(ahead, found)
        paths = {each.subject.golden for each in ahead._begun.values()}
        assert len(paths) == 1
        with np.load(paths.pop()) as arrays:
            assert len(arrays.files) == len(found.golden.inputs)
