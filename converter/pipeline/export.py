"""`export`: from a source to a directory of artifacts, each of them proven."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from converter.bundle.directory import refuse_other_source, stage
from converter.bundle.manifest import MANIFEST, MAX_BYTES, PAGE, REPORT, write_manifest
from converter.core import machine
from converter.core.clock import Clock, Progress
from converter.core.data import Arrays, Artifact, Interface
from converter.core.disk import writing
from converter.core.errors import InputError
from converter.core.files import digest_of
from converter.core.jsonable import dumps, read_json
from converter.core.limits import limited
from converter.core.results import Report
from converter.core.turn import turns
from converter.pipeline.arguments import export_options
from converter.pipeline.facts import manifest_of, report_of
from converter.pipeline.options import ExportKeywords, ExportOptions, ModelOrPath
from converter.pipeline.precisions import with_variants
from converter.pipeline.records import Records
from converter.pipeline.stages import HEAVY, write_artifacts
from converter.proof.ahead import Ahead
from converter.proof.children import waiting_children
from converter.proof.diagnosis import children_of
from converter.proof.plan import ProofOptions
from converter.proof.prove import prove
from converter.report.baseline import compared_with
from converter.report.html import to_html
from converter.report.table import to_json

UNPROVEN = ".unproven"
"""Suffix of the directory that an export is written to if its proof does not pass."""


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
    `package.module:function`, or `path/to/file.py:function`. The keywords (`ExportKeywords`) are those of the command
    line and override `options`. `progress` is called when a stage starts and ends. `commands` are names of commands,
    suggested if `model` is an unknown name similar to one of them.

    If the proof or the comparison with the baseline does not pass, an earlier export stays unchanged and this one is
    written to `<directory>.unproven`; `directory` of the report is the actual path. The same holds for an export of
    which a format is missing, if the earlier one has all of its formats.

    Raises the errors of `converter.core.errors`: UsageError for a wrong argument, before anything is loaded;
    OutputError if the directory contains an export of another source and neither `output` nor `force` was given;
    ConversionError only if no format at all could be written.
    """
    from converter.sources import opened

    options = export_options(options, keywords)
    clock = Clock(progress)
    source = opened(model, options.source, commands)
    directory = options.output or Path("artifacts", source.title)
    if options.output is None and not options.force:
        refuse_other_source(directory, source.identity)
    with (
        writing(directory),
        limited(options.limits),
        stage(directory) as staging,
        waiting_children(children_of(options.formats)[0]),
        turns() as turn,
        closing(Records(staging.path, turn)) as records,
        Ahead(turn) as ahead,
    ):

        def written(artifact: Artifact, interface: Interface, inputs: Arrays | None) -> None:
            records.begin(artifact)
            if inputs is not None and options.device == "cpu":
                ahead.begin(staging.path, artifact, interface, inputs)

        with turn.working():
            result = write_artifacts(source, options, staging.path, clock, written)
            result = with_variants(result, options.precision, options.source.seed, clock)
        for artifact in result.exported.artifacts:
            records.begin(artifact)
        if max(each.size for each in result.exported.artifacts) > HEAVY:
            gc.collect()
        machine.release_memory()
        proof = ProofOptions(device=options.device, tolerance=options.tolerance)
        evidence = prove(result.exported, proof, clock, turn, ahead)
        report = replace(
            report_of(result.facts, result.exported, evidence, clock, options.source.seed), failures=result.failures
        )
        report = compared_with(report, options.baseline)
        proven = report.verdict == "pass" and not (report.failures and _complete(directory))
        target = directory if proven else directory.with_name(directory.name + UNPROVEN)
        known = records.finish()
        report = replace(report, directory=str(target), digest=digest_of(known) if known else "")
        (staging.path / REPORT).write_text(dumps(to_json(report)), encoding="ascii")
        facts = manifest_of(result.facts, result.exported.artifacts, report, options.tolerance)
        manifest = write_manifest(staging.path, facts, known)
        hashes = {name: each.sha256 for name, each in manifest.files.items()}
        (staging.path / PAGE).write_text(to_html(report, hashes), encoding="utf-8")
        staging.commit(target)
    return report


def _complete(directory: Path) -> bool:
    """Whether `directory` is an earlier export of which no format is missing."""
    if not (directory / MANIFEST).is_file():
        return False
    try:
        failures = read_json(directory / REPORT, MAX_BYTES, "a report").get("failures")
    except (InputError, AttributeError):
        return True  # an export, but what is known of it cannot be read: it is not replaced
    return not failures
