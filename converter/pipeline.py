"""The line from end to end: `export` loads, rewrites, traces, writes and proves; `verify` proves a directory again.

Stages only: each is one call into the module that knows it. Progress is told through a callback, so that this module
neither prints nor knows a terminal.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from converter import bundle, environment
from converter.baseline import Baseline, held_against
from converter.core import (
    Array,
    Arrays,
    Artifact,
    Golden,
    Report,
    RuleResult,
    Source,
    SourceOptions,
    TensorSpec,
    WriteOptions,
)
from converter.diagnosis import READ_IN
from converter.errors import ConversionError, InputError, UsageError
from converter.jsonable import dumps
from converter.manifest import GOLDEN, MANIFEST, PAGE, REPORT
from converter.proof import Evidence, check_runtimes, prove
from converter.report import to_json
from converter.report_html import to_html
from converter.tolerance import tolerances

Progress = Callable[[str, float | None], None]
"""Called with a stage's name and None when it starts, and with its seconds when it is done."""

UNPROVEN = ".unproven"
"""Added to the name of the directory that an export goes to when its proof does not pass."""


@dataclass(frozen=True)
class ExportOptions:
    """Everything an export can be told. `output` is the artifact directory, by default artifacts/<name>."""

    formats: tuple[str, ...] = ("onnx", "tflite", "saved-model")
    output: Path | None = None
    write: WriteOptions = field(default_factory=WriteOptions)
    source: SourceOptions = field(default_factory=SourceOptions)
    device: str = "cpu"
    tolerance: float | None = None
    samples: int = 8
    groups: Literal["preserve", "as-written"] = "preserve"
    baseline: Baseline | None = None


@dataclass(frozen=True)
class Written:
    """What is left of a model once it is written: everything but the model."""

    name: str
    source: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: Golden
    artifacts: tuple[Artifact, ...]
    failures: tuple[str, ...] = ()
    rewritten: Mapping[str, Array] | None = None
    rewrites: tuple[RuleResult, ...] = ()
    warnings: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


class _Clock:
    """Times the stages and tells them to `progress`."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or (lambda stage, seconds: None)
        self.timings: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.progress(stage, None)
        started = time.perf_counter()
        yield
        self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - started
        self.progress(stage, self.timings[stage])


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
    too. Raises the errors of `converter.errors`; ConversionError only where no format at all could be written.
    """
    options = options or ExportOptions()
    _check(options)
    clock = _Clock(progress)
    title, load = _loader(model, options, commands)
    directory = options.output or Path("artifacts", title)
    with bundle.stage(directory) as staging:
        written = _write_all(load, options, staging.path, clock)
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
    clock = _Clock(progress)
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
    from converter.formats.to_onnx import OPSETS

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


def _loader(model: Any, options: ExportOptions, commands: Sequence[str]) -> tuple[str, Callable[[], Source]]:
    """The model's title, and how to load it; nothing is loaded yet for a text."""
    from converter import sources

    if isinstance(model, str):
        if sources.kind_of(model) == "unknown":
            sources.load(model, options.source, commands=commands)  # raises, with a suggestion
        return sources.title_of(model), lambda: sources.load(model, options.source, commands=commands)
    source = sources.load_object(model, input_shape=options.source.input_shape)
    return source.name, lambda: source


def _write_all(load: Callable[[], Source], options: ExportOptions, directory: Path, clock: _Clock) -> Written:
    """Everything that needs TensorFlow: load, predict, rewrite, trace, write. When it returns, the model is gone."""
    from converter import layer_map, reference, rewrites
    from converter.formats import FORMATS
    from converter.samples import generate
    from converter.signature import describe, layer_classes
    from converter.trace import trace

    with clock("load"):
        source = load()
        signature = describe(source.model)
    with clock("rewrite"):
        rewritten = rewrites.rewrite(source.model, groups=options.groups, seed=options.source.seed)
    with clock("reference"):
        span = source.preprocessing.get("range")
        ranges = {spec.name: (float(span[0]), float(span[1])) for spec in signature.inputs} if span else None
        inputs = generate(signature.inputs, options.samples, options.source.seed, ranges)
        author = rewritten.model if rewritten.on_purpose else source.model
        golden, ends = reference.golden(author, signature, inputs, layers=bool(READ_IN.keys() & options.formats))
        bundle.write_golden(directory / GOLDEN, golden)
        warnings, changed = rewritten.warnings, None
        if rewritten.on_purpose:
            own = reference.predict(source.model, signature, inputs)
            warnings = (*warnings, _changed_on_purpose(own, golden, signature.outputs))
        elif rewritten.changed:
            changed = reference.predict(rewritten.model, signature, inputs)
    with clock("trace"):
        traced = trace(rewritten.model, signature.with_batch(options.write.batch))
    artifacts, failures = [], []
    for name in dict.fromkeys(options.formats):
        with clock(f"write {name}"):
            try:
                artifacts.append(FORMATS[name].write(traced, directory, options.write))
            except ConversionError as error:
                failures.append(f"{name}: {error}")
    if not artifacts:
        raise ConversionError("\n".join(failures))
    outputs = tuple(
        replace(spec, shape=free.shape, dtype=str(golden.references[spec.name].dtype))
        for spec, free in zip(traced.outputs.values(), signature.outputs, strict=True)
    )
    with clock("layers"):
        warnings = (*warnings, *layer_map.write(directory, artifacts, (signature.inputs, outputs), golden, ends))
    return Written(
        name=source.name,
        source={
            **source.detail,
            "kind": source.kind,
            "untrained": source.untrained,
            "mended": list(source.mended),
            "changed_on_purpose": rewritten.on_purpose,
            "layers": len(source.model.layers),
            "layer_classes": {
                "loaded": Counter(signature.layers.values()),
                **({"rewritten": Counter(layer_classes(rewritten.model).values())} if rewritten.changed else {}),
            },
            "parameters": source.model.count_params(),
        },
        inputs=signature.inputs,
        outputs=outputs,
        golden=golden,
        artifacts=tuple(artifacts),
        failures=tuple(failures),
        rewritten=changed,
        rewrites=rewritten.results,
        warnings=warnings,
        preprocessing=source.preprocessing,
        labels=source.labels,
    )


def _changed_on_purpose(own: Arrays, golden: Golden, outputs: Sequence[TensorSpec]) -> str:
    """In words: that the artifacts are held against the changed function, and how far it is from the model's own."""
    from converter import compare

    specs = {spec.name: spec for spec in outputs}
    bounds = tolerances(golden.references, golden.exact, specs)
    found = [
        f"{each.output} {each.reason if each.relative_l2 is None else f'{each.relative_l2:.1e}'}"
        for each in compare.compare_outputs(own, golden.references, specs, bounds)
    ]
    return (
        "--groups as-written: the artifacts are compared with the changed function, not with the model's own "
        f"predictions; the two differ by a relative L2 of: {', '.join(found)}"
    )


def _report(written: Written, evidence: Evidence, clock: _Clock, seed: int, directory: Path) -> Report:
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
        "tolerance": {"chosen": options.tolerance, "outputs": report.tolerances},
        "rewrites": written.rewrites,
        "warnings": written.warnings,
        "preprocessing": written.preprocessing,
        "labels": written.labels,
        "environment": report.environment,
        "seed": report.seed,
    }
