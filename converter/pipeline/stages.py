"""The stages of an export that need TensorFlow: load, rewrite, predict, trace, write, record the layers.

Each stage takes the results of the stages before it. When `write_artifacts` returns, the model is released; files,
golden arrays and the facts for manifest and report remain.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from converter.bundle.golden import write_golden
from converter.bundle.manifest import GOLDEN
from converter.core.clock import LONG, Clock
from converter.core.data import (
    Array,
    Arrays,
    Artifact,
    Golden,
    Interface,
    Rewritten,
    Source,
    Traced,
)
from converter.core.effort import Effort
from converter.pipeline.about import about, described, with_preprocessing
from converter.pipeline.facts import ModelFacts
from converter.pipeline.formats import in_order, write_formats
from converter.pipeline.golden import Begun, Settings, begin_golden
from converter.pipeline.layer_record import Read, Reader, write_record
from converter.pipeline.notes import HALF_PRECISION, NO_FLOAT64, change_warning
from converter.pipeline.options import ExportOptions
from converter.pipeline.text_inputs import refuse_text_outputs
from converter.proof import forked
from converter.proof.children import begin
from converter.proof.diagnosis import DIAGNOSIS_RUNTIMES, children_of
from converter.proof.exported import Exported
from converter.proof.measures import Measures
from converter.sources import Opened
from converter.tracing.reference import Measured
from converter.tracing.signature import Signature

WhenWritten = Callable[[Artifact, Interface, Arrays | None], None]
"""Called with an artifact that is there, the interface of its model, and the golden inputs if it can be run on them."""

HEAVY = 256 << 20
"""Bytes of weights from which files are written after float64 was computed, not meanwhile: both need memory."""


@dataclass(frozen=True)
class Loaded:
    """The model of a source, and its inputs and outputs."""

    source: Source
    signature: Signature
    identity: str


@dataclass(frozen=True)
class Predicted:
    """The golden arrays, the end of each Keras layer, warnings, and the name of the inputs that were drawn.

    `rewritten` are the outputs of the rewritten model, None if it is not compared.
    """

    measured: Measured
    rewritten: dict[str, Array] | None
    warnings: tuple[str, ...]
    drawn: str
    measures: Measures | None = None

    @property
    def golden(self) -> Golden:
        """The golden arrays."""
        return self.measured.golden


@dataclass(frozen=True)
class Written:
    """An export as files: the artifacts to prove, the facts of the model, and the formats that could not be written.

    `layers` has the class of each Keras layer by name.
    """

    exported: Exported
    facts: ModelFacts
    failures: tuple[str, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)


def write_artifacts(
    opened: Opened, options: ExportOptions, directory: Path, clock: Clock, written: WhenWritten
) -> Written:
    """Run all stages and write the files into `directory`; `written` is called with each artifact.

    Raises the errors of `converter.core.errors`; ConversionError only if no format at all could be written.
    """
    from converter.tracing.concrete import traced_once
    from converter.tracing.context import legal_scopes, when_imported

    later = children_of(options.formats)[1]
    with clock("load"), when_imported(lambda fresh: begin(later, fork=fresh and forked.able())):
        loaded = _load(opened, options)
    with legal_scopes(), traced_once():
        return _written(loaded, options, directory, clock, written)


def _written(loaded: Loaded, options: ExportOptions, directory: Path, clock: Clock, written: WhenWritten) -> Written:
    with clock("rewrite"):
        rewritten = _rewrite(loaded, options)
    trace = functools.cache(lambda: _trace(loaded, rewritten, options, clock))
    with clock("reference"):
        begun = _begin(loaded, rewritten, options, clock, trace)
    with closing(begun):  # what it still has to do is done on another thread, while the files are written
        traced, first = trace(), begun.measuring
        assert first is not None
        if first.weights > HEAVY:
            with clock("reference"):
                first.wait()
        with closing(Reader(directory, loaded.signature.interface, first.inputs, first.ends)) as reader:
            artifacts: list[Artifact] = []
            failures: list[str] = []
            source, signature = loaded.source, loaded.signature
            known = first.inputs if _can_run_ahead(begun, options) else None
            for each in write_formats(source, signature, traced, options, directory, clock):
                if isinstance(each, str):
                    failures.append(each)
                    continue
                artifacts.append(each)
                reader.begin(each)
                written(each, signature.interface, known)
            predicted, read = _predict_and_read(loaded, rewritten, begun, artifacts, reader, clock)
    artifacts, failures = in_order(artifacts, options.formats), in_order(failures, options.formats)
    write_golden(directory / GOLDEN, predicted.golden)
    facts = _facts(loaded, rewritten, traced, predicted)
    exported = Exported(
        directory,
        tuple(artifacts),
        facts.interface,
        predicted.golden,
        precision=facts.precision,
        rewritten=predicted.rewritten,
        keras=predicted.measured.keras or None,
        half=facts.half,
        mixes=facts.mixes,
        measures=predicted.measures,
    )
    return Written(exported, replace(facts, warnings=(*facts.warnings, *read.warnings)), tuple(failures), traced.layers)


def _can_run_ahead(begun: Begun, options: ExportOptions) -> bool:
    """Whether the files may be run before the export is complete: on one size of inputs, if it is complete soon."""
    soon = begun.measuring is not None and begun.measuring.forecast <= LONG
    return soon and not begun.others and not options.precision.names


def _load(opened: Opened, options: ExportOptions) -> Loaded:
    from converter.tracing.signature import describe

    source = opened.load()
    signature = describe(source.model)
    refuse_text_outputs(source.model, signature)
    source = described(source, signature, options.preprocessing, options.labels)
    if options.embed_preprocessing:
        source, signature = with_preprocessing(source, signature)
    return Loaded(source, signature, opened.identity)


def _rewrite(loaded: Loaded, options: ExportOptions) -> Rewritten:
    from converter import rewrites

    return rewrites.rewrite(loaded.source.model, groups=options.groups, seed=options.source.seed)


def _begin(
    loaded: Loaded, rewritten: Rewritten, options: ExportOptions, clock: Clock, meanwhile: Callable[[], object]
) -> Begun:
    """Begin to measure the golden arrays.

    The reference is the model as its author wrote it, or the changed model if it was changed on purpose.
    """
    source = loaded.source
    author = rewritten.model if rewritten.on_purpose else source.model
    effort = Effort(options.samples, options.budget, len(options.formats))
    layers = bool(DIAGNOSIS_RUNTIMES.keys() & options.formats)
    settings = Settings(options.inputs, effort, options.source.seed, layers, clock.forecast, meanwhile)
    return begin_golden(author, source, loaded.signature, settings)


def _predict(loaded: Loaded, rewritten: Rewritten, begun: Begun) -> Predicted:
    """The golden arrays, and the outputs of the rewritten model if it is to be compared."""
    from converter.tracing import prediction

    source, signature, found = loaded.source, loaded.signature, begun.finish()
    inputs = found.measured.golden.inputs
    warnings, changed = (*rewritten.warnings, *found.warnings), None
    if rewritten.on_purpose:
        own = prediction.predict(source.model, signature, inputs)
        warnings = (*warnings, change_warning(own, found.measured.own))
    elif rewritten.changed:
        changed = prediction.predict(rewritten.model, signature, inputs)
    return Predicted(found.measured, changed, warnings, found.drawn, found.measures)


def _predict_and_read(
    loaded: Loaded, rewritten: Rewritten, begun: Begun, artifacts: Sequence[Artifact], reader: Reader, clock: Clock
) -> tuple[Predicted, Read]:
    """The golden arrays, and the tensors of the files, which are read beside what is still to be measured.

    They are read again if other inputs were drawn meanwhile. layers.json is written.
    """
    with clock("reference"):
        predicted = _predict(loaded, rewritten, begun)
    with clock("layers"):
        read, inputs, ends = reader.finish(), predicted.golden.inputs, predicted.measured.ends
        if inputs is not reader.inputs:
            with closing(Reader(reader.directory, reader.interface, inputs, ends)) as again:
                for artifact in artifacts:
                    again.begin(artifact)
                read = again.finish()
        write_record(reader.directory, inputs, ends, read)
    return predicted, read


def _trace(loaded: Loaded, rewritten: Rewritten, options: ExportOptions, clock: Clock) -> Traced:
    from converter.tracing.trace import trace

    with clock("trace"):
        traced = trace(rewritten.model, loaded.signature.with_batch(options.write.batch))
    return replace(traced, about=about(loaded.source))


def _facts(loaded: Loaded, rewritten: Rewritten, traced: Traced, predicted: Predicted) -> ModelFacts:
    from converter.tracing.signature import layer_classes

    source, signature, measured = loaded.source, loaded.signature, predicted.measured
    references, half = predicted.golden.references, traced.half
    compared = bool(half and predicted.golden.exact)
    outputs = tuple(
        replace(
            spec,
            shape=_known_shape(free.shape, references[spec.name].shape),
            dtype=str(references[spec.name].dtype),
            activation="linear" if half and not compared else spec.activation,
        )
        for spec, free in zip(traced.outputs.values(), signature.outputs, strict=True)
    )
    classes = {"loaded": Counter(signature.layers.values())}
    if rewritten.changed:
        classes["rewritten"] = Counter(layer_classes(rewritten.model).values())
    return ModelFacts(
        name=source.name,
        source={
            **source.detail,
            "kind": source.kind,
            "identity": loaded.identity,
            "untrained": source.untrained,
            "mended": list(source.repairs),
            "changed_on_purpose": rewritten.on_purpose,
            "layers": len(source.model.layers),
            "layer_classes": classes,
            "parameters": source.model.count_params(),
            "keras_precision": half or "float32",
            "samples": predicted.drawn,
            "mixes_samples": measured.mixes,
        },
        interface=Interface(signature.inputs, outputs),
        precision=measured.precision,
        rewrites=rewritten.results,
        warnings=(
            *predicted.warnings,
            *traced.warnings,
            *([(HALF_PRECISION if compared else NO_FLOAT64).format(half)] * bool(half)),
        ),
        preprocessing=source.preprocessing,
        labels=source.labels,
    )


def _known_shape(declared: Sequence[int | None], actual: Sequence[int]) -> tuple[int | None, ...]:
    """The declared shape of an output, corrected by the actual one: a layer may declare another one than it returns."""
    if len(declared) != len(actual):
        return (None, *actual[1:])
    return tuple(size if size in (None, found) else found for size, found in zip(declared, actual, strict=True))
