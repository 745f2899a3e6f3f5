"""Everything of an export that needs TensorFlow: load, predict, rewrite, trace, write.

Between a source and the proof: what `write_all` leaves is files, golden arrays and what the report says of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from converter.bundle import directory as bundle
from converter.report.baseline import Baseline
from converter.core.clock import Clock
from converter.core.data import Array, Arrays, Artifact, Golden, RuleResult, Source, SourceOptions, TensorSpec, WriteOptions
from converter.proof.diagnosis import READ_IN
from converter.core.errors import ConversionError
from converter.bundle.manifest import GOLDEN
from converter.proof.tolerance import tolerances

HALF = (
    "Keras computes this model, or a part of it, in {0}; the artifacts compute in float32, and their tolerance is made "
    "of what {0} does to Keras's own predictions"
)


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
    precision: str = "float32"  # that Keras computes in; artifacts are float32 in any case
    rewritten: Mapping[str, Array] | None = None
    rewrites: tuple[RuleResult, ...] = ()
    warnings: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def loader(model: Any, options: ExportOptions, commands: Sequence[str]) -> tuple[str, Callable[[], Source]]:
    """The model's title, and how to load it; nothing is loaded yet for a text."""
    from converter import sources

    if isinstance(model, str):
        if sources.kind_of(model) == "unknown":
            sources.load(model, options.source, commands=commands)  # raises, with a suggestion
        return sources.title_of(model), lambda: sources.load(model, options.source, commands=commands)
    source = sources.load_object(model, input_shape=options.source.input_shape)
    return source.name, lambda: source


def write_all(load: Callable[[], Source], options: ExportOptions, directory: Path, clock: Clock) -> Written:
    """Everything that needs TensorFlow: load, predict, rewrite, trace, write. When it returns, the model is gone."""
    from converter import rewrites
    from converter.pipeline import layer_record as layer_map
    from converter.tracing import reference
    from converter.formats import FORMATS
    from converter.core.samples import generate
    from converter.tracing.signature import describe, layer_classes
    from converter.tracing.trace import trace

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
    if traced.half:
        warnings = (*warnings, HALF.format(traced.half))
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
        precision="float16" if traced.half else "float32",
        rewritten=changed,
        rewrites=rewritten.results,
        warnings=warnings,
        preprocessing=source.preprocessing,
        labels=source.labels,
    )


def _changed_on_purpose(own: Arrays, golden: Golden, outputs: Sequence[TensorSpec]) -> str:
    """In words: that the artifacts are held against the changed function, and how far it is from the model's own."""
    from converter.proof import comparison as compare

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
