"""`verify`: repeats the proof of an artifact directory from its files; needs neither TensorFlow nor Keras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Unpack

from converter.bundle.directory import locate
from converter.bundle.golden import read_golden
from converter.bundle.manifest import (
    EXPORT_AGAIN,
    GOLDEN,
    MANIFEST,
    Manifest,
    check_hashes,
    files_of,
    read_manifest,
    unlisted,
)
from converter.core.clock import Clock, Progress
from converter.core.data import Artifact
from converter.core.disk import writing
from converter.core.errors import InputError
from converter.core.files import digest_of
from converter.core.limits import limited
from converter.core.results import Report
from converter.core.text import one_line
from converter.pipeline.arguments import verify_options
from converter.pipeline.checks import path_of
from converter.pipeline.facts import ModelFacts, report_of
from converter.pipeline.options import PathText, VerifyKeywords
from converter.proof.children import RUN_CHILD, waiting_children
from converter.proof.exported import Exported
from converter.proof.plan import ProofOptions, check_runtimes, plan
from converter.proof.prove import prove
from converter.report.baseline import Baseline, compared_with
from converter.signing.check import check_signature


@writing()
def verify(directory: PathText, *, progress: Progress | None = None, **keywords: Unpack[VerifyKeywords]) -> Report:
    """Repeat the proof of an artifact directory, or of one artifact in it, from its files. Writes nothing.

    Keywords: `runtimes` (a name, names separated by commas, or a list), `device`, `tolerance`, `baseline` (a path or a
    Baseline) with `growth`, `server` (the address of a model in a server, as `http://HOST:PORT/v2/models/NAME`, whose
    answers are one more row), `key` (a PEM file with the public key of the one who signed the directory),
    `memory_limit` (as in "4G") and `timeout` (seconds) of each child. Without `runtimes` each format is run in the
    first of its runtimes; a format without an available runtime is reported and left out if another format can be run.
    `progress` is called when a stage starts and ends.

    Raises UsageError for a wrong keyword, InputError for a directory that is not an intact export and for the baseline
    of another model, UnsafeError for a directory that is not signed by the owner of `key` or was changed since, and
    UnavailableError for a runtime or device that is not available. If golden.npz was changed, a failed comparison is
    still reported; any other verdict raises InputError.
    """
    given = path_of(directory, "directory")
    options, baseline = verify_options(keywords)
    path, only = locate(given)
    if keywords.get("key") is not None:
        check_signature(path, path_of(keywords["key"], "key"))
    check_runtimes(options.runtimes, options.device, options.server)
    clock = Clock(progress)
    with clock("read"):
        manifest = read_manifest(path)
        artifacts = tuple(each for each in manifest.artifacts if only in (None, each.path))
        if not artifacts:
            there = ", ".join(each.path for each in manifest.artifacts) or "none"
            raise InputError(f"{given}: not an artifact in {path / MANIFEST}, which lists {there}")
        runs, _ = plan(artifacts, options)
    wanted = dict.fromkeys((RUN_CHILD, run.runtime) for run in runs if run.device == "cpu")
    with limited(options.limits), waiting_children(wanted):  # they start while the hashes are computed
        return _verified(path, manifest, artifacts, options, clock, baseline)


def _verified(
    path: Path,
    manifest: Manifest,
    artifacts: tuple[Artifact, ...],
    options: ProofOptions,
    clock: Clock,
    baseline: Baseline | None,
) -> Report:
    with clock("read"):
        intact = check_hashes(path, manifest)
        golden = read_golden(path / GOLDEN, manifest.interface)
    facts = ModelFacts.of_manifest(manifest)
    others = unlisted(path, manifest)
    if others:
        names = ", ".join(one_line(each, 60) for each in others[:5]) + (", …" if len(others) > 5 else "")
        warning = f"{len(others)} entries of the directory are not in its manifest and were not read: {names}"
        facts = replace(facts, warnings=(*facts.warnings, warning))
    if options.tolerance is None:
        options = replace(options, tolerance=manifest.tolerance.get("chosen"))
    exported = Exported(path, artifacts, facts.interface, golden, facts.precision, half=facts.half, mixes=facts.mixes)
    evidence = prove(exported, options, clock)
    if not intact and evidence.verdict != "fail":
        raise InputError(f"{path / GOLDEN}: damaged, its sha256 differs from the one in the manifest\n{EXPORT_AGAIN}")
    report = report_of(facts, exported, evidence, clock, manifest.seed)
    return compared_with(replace(report, digest=digest_of(files_of(manifest))), baseline)
