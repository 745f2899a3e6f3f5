"""`cnnexport bench`: what is measured, what is compared, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.bench.child import MOST
from converter.bench.figures import Estimate
from converter.bench.measure import BenchOptions, Measured, measure, processors_of
from converter.bench.report import lines, report_of, sentences
from converter.bench.subjects import KERAS, Case, Subject, cases, subjects
from converter.core.clock import Clock
from converter.core.data import Artifact, TensorSpec
from converter.core.errors import UsageError
from converter.core.limits import Limits
from converter.runtimes import RUNTIMES, TENSORRT

SHORT = ("--seconds", "0.1", "--quiet")
IMAGE = TensorSpec("image", (None, 4))


def subject(name: str, precision: str = "float32", runtime: str = "onnxruntime", *, peer: bool = False) -> Subject:
    artifact = Artifact("onnx", name, precision, (IMAGE,), (IMAGE,), {}, 100, 0.0)
    return Subject(Case(Path("out", name), artifact, {}, peer), runtime)


def measured(found: Subject, seconds: float, **more: Any) -> Measured:
    """Twenty rounds of almost the same time."""
    times = [[seconds * (1 + 0.001 * (index % 3))] * 5 for index in range(20)]
    return Measured(found, [0.1], [0.2], {1: times}, **more)


def test_every_file_is_measured_in_every_runtime(cnnexport: Callable[..., Any], exported: Any) -> None:
    files = [exported.directory / name for name in ("model.onnx", "model.tflite")]
    outcome = cnnexport(
        "bench", *files, "--runtime", "onnxruntime,litert", "--batch", 1, "--batch", 3, "--json", *SHORT
    )
    assert outcome.code in (0, 9), outcome.stderr
    report = outcome.json
    assert report["schema"] == 1
    assert [(row["format"], row["runtime"]) for row in report["rows"]] == [
        ("onnx", "onnxruntime"),
        ("tflite", "litert"),
    ]
    for row in report["rows"]:
        assert sorted(row["latency"]) == ["1", "3"]
        assert row["size"] == (exported.directory / f"model.{row['format']}").stat().st_size
        timed = row["latency"]["1"]
        assert 0 < timed["median"]["low"] <= timed["median"]["value"] <= timed["median"]["high"]
        assert row["throughput"]["1"] == pytest.approx(1 / timed["median"]["value"])
        assert min(row["load"], row["first"], row["peak"]) > 0
        assert not row["error"]
    assert report["control"]["low"] <= report["control"]["value"] <= report["control"]["high"]


@pytest.mark.slow
def test_a_file_of_another_exporter_and_keras(cnnexport: Callable[..., Any], exported: Any, tmp_path: Path) -> None:
    peer = tmp_path / "peer.onnx"
    peer.write_bytes((exported.directory / "model.onnx").read_bytes())
    source = f"{exported.directory / 'model.onnx'}"
    outcome = cnnexport(
        "bench", source, "--against", peer, "--runtime", "onnxruntime", "--keras", "tiny_nets:two_heads", "--batch", 1,
        "--json", *SHORT,
    )  # fmt: skip
    assert outcome.code in (0, 9), outcome.stderr
    rows = {row["runtime"] + str(row["peer"]): row for row in outcome.json["rows"]}
    assert sorted(rows) == ["kerasFalse", "onnxruntimeFalse", "onnxruntimeTrue"]
    assert rows["onnxruntimeTrue"]["precision"] == ""
    assert not any(row["error"] for row in rows.values())
    assert {each["base_runtime"] for each in outcome.json["comparisons"]} == {"onnxruntime", KERAS}


def test_the_table_has_a_line_for_each_row_and_one_for_the_control(
    cnnexport: Callable[..., Any], exported: Any
) -> None:
    outcome = cnnexport("bench", exported.directory / "model.tflite", "--runtime", "litert", "--batch", 1, *SHORT)
    head, row, _, control, *_ = outcome.stdout.splitlines()
    assert head.split()[:4] == ["file", "precision", "runtime", "size"]
    assert row.startswith("two_heads/model.tflite  float32    litert")
    assert control.startswith("control: two_heads/model.tflite in litert against itself takes ")


def test_precisions_are_compared_with_float32_in_the_same_runtime() -> None:
    found = [
        measured(subject("model.onnx"), 1e-3),
        measured(subject("model.int8.onnx", "int8"), 5e-4),
        measured(subject("model.int8.onnx", "int8", "openvino"), 4e-4),
        measured(subject("peer.onnx", peer=True), 2e-3),
        measured(subject("model.onnx"), 1e-3),
    ]
    report = report_of(found, BenchOptions(processors=(0, 1)))
    assert report.exit_code == 0
    answers = {(each.file, each.base): each.answer for each in report.comparisons}
    assert answers == {
        ("out/model.int8.onnx", "out/model.onnx"): "faster",
        ("out/model.onnx", "out/peer.onnx"): "faster",
        ("out/model.int8.onnx", "out/peer.onnx"): "faster",
    }
    assert [row.throughput[1] for row in report.rows[:2]] == pytest.approx([1000, 2000], rel=0.01)


def test_a_gpu_is_measured_beside_the_cpu(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is there but for TensorRT; the file on it is compared with itself on the CPU."""
    absent = replace(RUNTIMES["onnxruntime"], unavailable=lambda device: "no TensorRT" if device == TENSORRT else None)
    monkeypatch.setitem(RUNTIMES, "onnxruntime", absent)
    found = cases([exported.directory / "model.onnx", exported.directory / "model.tflite"], [], 0)
    chosen = subjects(found, ["onnxruntime", "litert"], "cuda")
    assert [(each.runtime, each.device) for each in chosen] == [
        ("onnxruntime", "cpu"), ("onnxruntime", "cuda"), ("onnxruntime", "cuda-tf32"), ("litert", "cpu"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--device cuda: no file and runtime among these runs there"):
        subjects(found, ["litert"], "cuda")
    own = measured(chosen[0], 4e-3)
    gpu = measured(chosen[1], 1e-3, facts={"device_name": "Some GPU"})
    report = report_of([own, gpu, own], BenchOptions())
    (compared,) = report.comparisons
    assert (compared.base_device, compared.device, compared.answer) == ("cpu", "cuda", "faster")
    assert [row[2] for row in lines(report)] == ["runtime", "onnxruntime", "onnxruntime on cuda"]
    assert [row[-1] for row in lines(report)][1:] == ["", ""]  # nothing is compared with float32
    *_, against, machine = sentences(report)
    assert "model.onnx in onnxruntime on cuda against two_heads/model.onnx in onnxruntime: 0.25 (" in against
    assert ", Some GPU, " in machine


def test_a_twin_that_differs_makes_the_machine_too_noisy() -> None:
    found = [measured(subject("model.onnx"), 1e-3), measured(subject("model.onnx"), 1.5e-3)]
    report = report_of(found, BenchOptions())
    assert report.too_noisy
    assert report.exit_code == 9
    assert report.control == Estimate(*(pytest.approx(1.5, rel=0.01) for _ in range(3)))


def test_too_few_rounds_give_no_figures() -> None:
    few = measured(subject("model.onnx"), 1e-3)
    few.rounds[1] = few.rounds[1][:4]
    report = report_of([few, few], BenchOptions())
    assert report.control is None
    assert report.rows[0].latency == {}
    assert report.exit_code == 9


def test_a_file_that_a_runtime_refuses_is_a_row_with_an_error(exported: Any, tmp_path: Path) -> None:
    """The other one is measured."""
    good = cases([exported.directory / "model.onnx"], [], 0)
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(good[0].path.read_bytes()[:2000])
    bad = Case(damaged, good[0].artifact, good[0].inputs)
    found = measure(subjects([*good, bad], ["onnxruntime"]), BenchOptions((1,), 0.05, starts=1), Clock(None))
    assert [bool(each.error) for each in found] == [False, True, False]
    assert len(found[0].rounds[1]) >= 8
    assert all(len(times) <= MOST for times in found[0].rounds[1])
    assert report_of(found, BenchOptions()).exit_code == 8


def test_a_process_that_hangs_is_stopped(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.bench import measure as module

    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "CHILD", "hangs")
    monkeypatch.setattr(module, "limits_for", lambda size: Limits(None, 1.0))
    chosen = subjects(cases([exported.directory / "model.onnx"], [], 0), ["onnxruntime"])
    found = measure(chosen, BenchOptions((1,), 0.05, starts=1), Clock(None))
    assert [each.error for each in found] == [
        "no answer after 1 s, its limit (see --timeout); its process was stopped"
    ] * 2
    assert report_of(found, BenchOptions()).exit_code == 8


def test_a_process_that_crashes_is_a_row_with_its_last_words(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.bench import measure as module

    (tmp_path / "crashes.py").write_text("import sys\nprint('out of luck', file=sys.stderr)\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "CHILD", "crashes")
    chosen = subjects(cases([exported.directory / "model.onnx"], [], 0), ["onnxruntime"])
    found = measure(chosen, BenchOptions((1,), 0.05, starts=1), Clock(None))
    assert [each.error for each in found] == ["its process ended with status 3: out of luck"] * 2


def test_more_threads_than_processors_are_refused() -> None:
    assert len(processors_of(1)) == 1
    with pytest.raises(UsageError, match="--threads 4096: this process may use"):
        processors_of(4096)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "Missing argument"),
        (("missing.onnx",), 3, "missing.onnx: no such file or directory"),
        (("text.txt",), 3, "text.txt: expected an export, or a file that ends in .onnx or .tflite"),
        (("bad.onnx",), 3, "bad.onnx: not an ONNX file, or damaged"),
        (("bad.tflite",), 3, "LiteRT cannot load it"),
        (("folder",), 3, "folder: not an export"),
        (("bad.onnx", "--seconds", "0"), 2, "--seconds 0: give a number above 0"),
        (("bad.onnx", "--batch", "0"), 2, "--batch 0: out of range"),
        (("bad.onnx", "--threads", "4096"), 2, "--threads 4096"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str, ...], code: int, words: str, cnnexport: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("text.txt", "bad.onnx", "bad.tflite"):
        (tmp_path / name).write_text("not a model")
    (tmp_path / "folder").mkdir()
    outcome = cnnexport("bench", *arguments, "--quiet")
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    assert words in outcome.stderr


@pytest.mark.parametrize(
    ("runtime", "code", "words"),
    [
        ("litertt", 2, "no such runtime"),
        ("all", 2, "no such runtime"),
        ("litert", 2, "reads none of the files"),
        ("ncnn", 5, "ncnn is not installed"),
    ],
)
def test_a_runtime_that_cannot_measure(
    runtime: str, code: int, words: str, cnnexport: Callable[..., Any], exported: Any
) -> None:
    outcome = cnnexport("bench", exported.directory / "model.onnx", "--runtime", runtime, "--quiet")
    assert outcome.code == code
    assert words in outcome.stderr


def test_a_gpu_that_is_not_there(cnnexport: Callable[..., Any], exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    outcome = cnnexport("bench", exported.directory, "--device", "cuda", "--quiet")
    assert outcome.code == 5
    assert "onnxruntime on cuda" in outcome.stderr
    assert outcome.stdout == ""


def test_a_damaged_export_is_refused(cnnexport: Callable[..., Any], copied: Path) -> None:
    with (copied / "model.onnx").open("ab") as file:
        file.write(b"more")
    outcome = cnnexport("bench", copied, "--quiet")
    assert outcome.code == 3
    assert "damaged" in outcome.stderr
    manifest = json.loads((copied / "manifest.json").read_text())
    assert manifest["artifacts"]
