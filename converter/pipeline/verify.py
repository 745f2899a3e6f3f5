"""`verify`: the proof of an artifact directory again, from what lies there; needs neither TensorFlow nor Keras."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from converter.bundle.directory import locate
from converter.bundle.golden import read_golden
from converter.bundle.manifest import EXPORT_AGAIN, GOLDEN, MANIFEST, check_hashes, read_manifest
from converter.core.clock import Clock, Progress
from converter.core.errors import InputError
from converter.core.results import Report
from converter.pipeline.arguments import path_of, verify_options
from converter.pipeline.facts import ModelFacts, report_of
from converter.pipeline.options import PathText, VerifyKeywords
from converter.proof.plan import check_runtimes
from converter.proof.prove import Exported, prove
from converter.report.baseline import compared_with


def verify(directory: PathText, *, progress: Progress | None = None, **keywords: Unpack[VerifyKeywords]) -> Report:
    """Repeat the proof of an artifact directory, or of one artifact in it, from what lies there; writes nothing.

    Keywords: `runtimes` (a name, names separated by commas, or several), `device`, `tolerance`, `baseline` (a path or a
    Baseline) with `growth`. Without `runtimes` each format is run in the first of its runtimes, and one that has none
    here is reported and left out as long as another could be run. `progress` is called as each stage begins and ends.

    Raises UsageError for a wrong keyword, InputError for a directory that is no intact export and for the baseline of
    another model, UnavailableError for a runtime or device that is not here. A failed comparison outranks golden arrays
    that are not the exported ones; with them nothing ever passes.
    """
    given = path_of(directory, "directory")
    options, baseline = verify_options(keywords)
    path, only = locate(given)
    check_runtimes(options.runtimes, options.device)
    clock = Clock(progress)
    with clock("read"):
        manifest = read_manifest(path)
        artifacts = tuple(each for each in manifest.artifacts if only in (None, each.path))
        if not artifacts:
            there = ", ".join(each.path for each in manifest.artifacts)
            raise InputError(f"{given}: no artifact of {path / MANIFEST}; it lists {there}")
        intact = check_hashes(path, manifest)
        golden = read_golden(path / GOLDEN, manifest.interface)
    facts = ModelFacts.of_manifest(manifest)
    if options.tolerance is None:
        options = replace(options, tolerance=manifest.tolerance.get("chosen"))
    exported = Exported(path, artifacts, facts.interface, golden, facts.precision)
    evidence = prove(exported, options, clock)
    if not intact and evidence.verdict != "fail":
        raise InputError(f"{path / GOLDEN}: damaged, its sha256 is not the one in the manifest\n{EXPORT_AGAIN}")
    return compared_with(report_of(facts, exported, evidence, clock, manifest.seed), baseline)
