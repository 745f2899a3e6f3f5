"""The line from end to end: `export` loads, rewrites, traces, writes and proves; `verify` proves a directory again.

Stages only: each is one call into the module that knows it; those up to the written files are in `converter.pipeline.stages`.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.bundle import directory as bundle

from converter.core import machine as environment
from converter.report.baseline import Baseline, held_against
from converter.core.clock import Clock, Progress
from converter.core.errors import InputError, UsageError
from converter.core.jsonable import dumps
from converter.bundle.manifest import GOLDEN, MANIFEST, PAGE, REPORT
from converter.proof.prove import Evidence, check_runtimes, prove
from converter.report.table import to_json
from converter.report.html import to_html
from converter.core.results import Report
from converter.proof.tolerance import tolerances
from converter.pipeline.stages import ExportOptions, Written, loader, write_all

__all__ = ["UNPROVEN", "ExportOptions", "export", "verify"]

UNPROVEN = ".unproven"
"""Added to the name of the directory that an export goes to when its proof does not pass."""


def export(
    model: Any,
    options: ExportOptions | None = None,
    *,
    progress: Progress | None = None,
    commands: Sequence[str] = (),
) -> Report:
    """Export `model` (the text of a source, or a keras.Model), prove every artifact, and commit the directory.

    Where the proof does not pass, or the baseline, an earlier export stays as it was and this one goes to
    `<directory>.unproven`; the report's `directory` tells. `commands` are words that an unknown name is compared with,
    too. Raises the errors of `converter.core.errors`; ConversionError only where no format at all could be written.
    """
    options = options or ExportOptions()
    _check(options)
    clock = Clock(progress)
    title, load = loader(model, options, commands)
    directory = options.output or Path("artifacts", title)
    with bundle.stage(directory) as staging:
        written = write_all(load, options, staging.path, clock)
        gc.collect()
        environment.give_memory_back()
        evidence = prove(
            staging.path,
            written.artifacts,
            (written.inputs, written.outputs),
            written.golden,
            clock,
            device=options.device,
            chosen=options.tolerance,
            rewritten=written.rewritten,
            precision=written.precision,
        )
        report = held_against(_report(written, evidence, clock, options.source.seed, directory), options.baseline)
        target = directory if report.verdict == "pass" else directory.with_name(directory.name + UNPROVEN)
        report = replace(report, directory=str(target))
        (staging.path / REPORT).write_text(dumps(to_json(report)), encoding="ascii")
        manifest = bundle.write_manifest(staging.path, _manifest(report, written, options))
        hashes = {name: each.sha256 for name, each in manifest.files.items()}
        (staging.path / PAGE).write_text(to_html(report, hashes), encoding="utf-8")
        staging.commit(target)
    return report


def verify(
    directory: str | Path,
    *,
    runtimes: Sequence[str] = (),
    device: str = "cpu",
    tolerance: float | None = None,
    baseline: Baseline | None = None,
    progress: Progress | None = None,
) -> Report:
    """Repeat the proof of an artifact directory, or of one artifact in it, from what lies there; writes nothing.

    Without `runtimes` each format is run in the first of its runtimes, and one that has none here is told and left out
    as long as another could be run. Raises InputError for a directory that is no intact export and for the baseline of
    another model, UnavailableError for a runtime or device that is not here. A failed comparison outranks golden
    arrays that are not the exported ones; with them nothing ever passes.
    """
    path, only = bundle.locate(Path(directory))
    check_runtimes(runtimes, device)
    clock = Clock(progress)
    with clock("read"):
        manifest = bundle.read_manifest(path)
        artifacts = tuple(each for each in manifest.artifacts if only in (None, each.path))
        if not artifacts:
            there = ", ".join(each.path for each in manifest.artifacts)
            raise InputError(f"{Path(directory)}: no artifact of {path / MANIFEST}; it lists {there}")
        intact = bundle.check_hashes(path, manifest)
        golden = bundle.read_golden(path / GOLDEN, manifest.inputs, manifest.outputs)
    evidence = prove(
        path,
        artifacts,
        (manifest.inputs, manifest.outputs),
        golden,
        clock,
        runtimes=runtimes,
        device=device,
        chosen=tolerance if tolerance is not None else manifest.tolerance.get("chosen"),
        every=False,
        precision=str(manifest.tolerance.get("precision", "float32")),
    )
    if not intact and evidence.verdict != "fail":
        raise InputError(f"{path / GOLDEN}: damaged, its sha256 is not the one in the manifest\nexport the model again")
    known = Written(
        manifest.model, manifest.source, manifest.inputs, manifest.outputs, golden, artifacts,
        warnings=manifest.warnings,
    )  # fmt: skip
    return held_against(_report(known, evidence, clock, manifest.seed, path), baseline)


def _check(options: ExportOptions) -> None:
    """Refuse, before anything is loaded, what can be refused without the model."""
    import difflib

    from converter.formats import FORMATS
    from converter.formats.onnx.write import OPSETS

    for name in options.formats or ("",):
        if name not in FORMATS:
            guess = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.4)
            hint = f"did you mean {guess[0]}? " if guess else ""
            raise UsageError(f"--format {name or '(none)'}: no such format\n{hint}choose from {', '.join(FORMATS)}")
    write = options.write
    if write.opset not in OPSETS:
        raise UsageError(f"--opset {write.opset}: out of range\nchoose from {OPSETS[0]} to {OPSETS[-1]}")
    if write.batch is not None and write.batch < 1:
        raise UsageError(f"--batch {write.batch}: a batch holds at least one sample\nleave it out for any batch size")
    if options.samples < 2:
        raise UsageError(f"--samples {options.samples}: two samples are the least that can be told apart")
    if write.layout == "nchw" and "onnx" not in options.formats:
        raise UsageError("--layout nchw: only ONNX is channels-first; TFLite and SavedModel are not\nadd --format onnx")
    tolerances({}, {}, {}, chosen=options.tolerance)  # refuses a wrong one
    check_runtimes((), options.device)


def _report(written: Written, evidence: Evidence, clock: Clock, seed: int, directory: Path) -> Report:
    return Report(
        model=written.name,
        source=written.source,
        rows=evidence.rows,
        controls=evidence.controls,
        tolerances=evidence.tolerances,
        separation=evidence.separation,
        verdict=evidence.verdict,
        reasons=evidence.reasons,
        artifacts=written.artifacts,
        warnings=(*written.warnings, *evidence.skipped),
        timings=dict(clock.timings),
        environment=environment.describe(),
        seed=seed,
        directory=str(directory),
        failures=written.failures,
        stages=evidence.stages,
    )


def _manifest(report: Report, written: Written, options: ExportOptions) -> dict[str, Any]:
    return {
        "model": written.name,
        "source": written.source,
        "artifacts": written.artifacts,
        "inputs": written.inputs,
        "outputs": written.outputs,
        "tolerance": {"chosen": options.tolerance, "precision": written.precision, "outputs": report.tolerances},
        "rewrites": written.rewrites,
        "warnings": written.warnings,
        "preprocessing": written.preprocessing,
        "labels": written.labels,
        "environment": report.environment,
        "seed": report.seed,
    }
