"""`export`: a source to a directory of artifacts, each of them proven."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from converter.bundle.directory import refuse_other_source, stage
from converter.bundle.manifest import PAGE, REPORT, write_manifest
from converter.core import machine
from converter.core.clock import Clock, Progress
from converter.core.jsonable import dumps
from converter.core.results import Report
from converter.pipeline.arguments import export_options
from converter.pipeline.facts import manifest_of, report_of
from converter.pipeline.options import ExportKeywords, ExportOptions, ModelOrPath
from converter.pipeline.stages import written
from converter.proof.plan import ProofOptions
from converter.proof.prove import prove
from converter.report.baseline import compared_with
from converter.report.html import to_html
from converter.report.table import to_json

UNPROVEN = ".unproven"
"""Added to the name of the directory that an export goes to when its proof does not pass."""


def export(
    model: ModelOrPath,
    options: ExportOptions | None = None,
    *,
    progress: Progress | None = None,
    commands: Sequence[str] = (),
    **keywords: Unpack[ExportKeywords],
) -> Report:
    """Export `model`, prove every artifact, and commit the directory.

    `model` is a keras.Model, the path of a model file, or the text of a source: a name of the zoo, `keras:Name`,
    `package.module:function`, `path/to/file.py:function`. Keywords (`ExportKeywords`) are those of the command line,
    and outrank `options`. `progress` is called as each stage begins and ends; `commands` are words that an unknown
    name is compared with, too.

    Where the proof does not pass, or the baseline, an earlier export stays as it was and this one goes to
    `<directory>.unproven`; the report's `directory` says where.

    Raises the errors of `converter.core.errors`: UsageError for a wrong argument, before anything is loaded;
    OutputError where the directory holds an export of another source and neither `output` nor `force` was given;
    ConversionError only where no format at all could be written.
    """
    from converter.sources import opened

    options = export_options(options, keywords)
    clock = Clock(progress)
    source = opened(model, options.source, commands)
    directory = options.output or Path("artifacts", source.title)
    if options.output is None and not options.force:
        refuse_other_source(directory, source.identity)
    with stage(directory) as staging:
        result = written(source, options, staging.path, clock)
        gc.collect()
        machine.give_memory_back()
        evidence = prove(result.exported, ProofOptions(device=options.device, tolerance=options.tolerance), clock)
        report = replace(
            report_of(result.facts, result.exported, evidence, clock, options.source.seed), failures=result.failures
        )
        report = compared_with(report, options.baseline)
        target = directory if report.verdict == "pass" else directory.with_name(directory.name + UNPROVEN)
        report = replace(report, directory=str(target))
        (staging.path / REPORT).write_text(dumps(to_json(report)), encoding="ascii")
        manifest = write_manifest(
            staging.path, manifest_of(result.facts, result.exported.artifacts, report, options.tolerance)
        )
        hashes = {name: each.sha256 for name, each in manifest.files.items()}
        (staging.path / PAGE).write_text(to_html(report, hashes), encoding="utf-8")
        staging.commit(target)
    return report
