"""LiteRT's delegate: the report says what LiteRT applied, for the whole graph, a part of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from converter.core.data import WriteOptions
from converter.core.foreign import Facts
from converter.core.results import OutputResult
from converter.runtimes import run_litert

if TYPE_CHECKING:
    from conftest import Exported, Small


def test_the_delegate_runs_the_whole_graph(
    exported: Exported, run_in: Callable[..., tuple[list[OutputResult], Facts]]
) -> None:
    (written,) = [each for each in exported.report.artifacts if each.format == "tflite"]
    facts = run_in(exported.directory, "litert", "tflite")[1]["facts"]
    assert facts["delegate"] == "default"
    assert facts["nodes"] == {"delegate": sum(written.operators.values()), "litert": 0}


@pytest.mark.parametrize(
    ("builder", "delegate", "own"),
    [("conv3d", "default", {"CONV_3D"}), ("transposed", "none", {"PACK", "SHAPE", "STRIDED_SLICE", "TRANSPOSE_CONV"})],
)
def test_operators_that_the_delegate_does_not_take_are_counted(
    builder: str, delegate: str, own: set[str], build_small: Callable[[str], Small], tmp_path: Path
) -> None:
    from converter.formats import FORMATS

    small = build_small(builder)
    artifact = FORMATS["tflite"].write(small.traced, tmp_path, WriteOptions())
    prepared = run_litert.prepare(tmp_path / artifact.path, artifact, "cpu")
    assert "delegate" not in prepared.facts, "nothing is applied before the first run"
    prepared.run(small.inputs)
    assert prepared.facts["delegate"] == delegate
    kept = sum(count for name, count in artifact.operators.items() if name in own)
    assert prepared.facts["nodes"] == {"delegate": sum(artifact.operators.values()) - kept, "litert": kept}


def test_a_litert_that_does_not_report_its_operators_makes_no_claim() -> None:
    assert run_litert.delegate_facts(object()) == {}
