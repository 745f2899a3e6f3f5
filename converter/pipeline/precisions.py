"""The stage of an export that writes other precisions than float32, from the finished float32 files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from converter.core.clock import Clock
from converter.core.data import Artifact
from converter.core.errors import ConversionError
from converter.core.precision import FORMATS, PrecisionOptions
from converter.pipeline.facts import ModelFacts
from converter.pipeline.stages import Written

if TYPE_CHECKING:
    from converter.quantize.work import Made, Work


def with_variants(written: Written, options: PrecisionOptions, seed: int, clock: Clock) -> Written:
    """`written` with every precision of `options` in its directory, beside the float32 artifacts.

    A precision that the model cannot have is a failure of its own. Raises UsageError for a layer to keep that does not
    exist, InputError for calibration samples that do not fit.
    """
    if not options.names:
        return written
    from converter.quantize.work import Work

    exported = written.exported
    sources = tuple(each for each in exported.artifacts if each.format in FORMATS)
    work = Work(exported.directory, sources, exported.interface, written.layers, exported.golden, options, seed)
    artifacts: list[Artifact] = []
    warnings: list[str] = []
    failures: list[str] = [] if sources else ["precisions: neither ONNX nor TFLite was written, which hold them"]
    for name in options.names if sources else ():
        with clock(f"write {name}"):
            for part in _parts(work, name):
                try:
                    made = _made(part, name, written.facts)
                    artifacts += made.artifacts
                    warnings += made.warnings
                    failures += [f"{name}: {each}" for each in made.failures]
                except ConversionError as error:
                    failures.append(f"{name}: {error}")
    return replace(
        written,
        exported=replace(exported, artifacts=(*exported.artifacts, *artifacts)),
        facts=replace(written.facts, warnings=(*written.facts.warnings, *warnings)),
        failures=(*written.failures, *failures),
    )


def _parts(work: Work, name: str) -> list[Work]:
    """One format after the other, so that what one cannot hold costs the other nothing; int8 is one plan for both."""
    if name == "int8":
        return [work]
    return [replace(work, artifacts=(each,)) for each in work.artifacts]


def _made(work: Work, name: str, facts: ModelFacts) -> Made:
    from converter.pipeline.calibration_images import has_images, image_samples
    from converter.quantize.calibration import calibration_of, noise_calibration, read_calibration
    from converter.quantize.dynamic import write_dynamic
    from converter.quantize.int8 import write_int8
    from converter.quantize.rounding import write_half, write_weights

    if name == "fp16":
        return write_half(work)
    if name == "int8-weights":
        return write_weights(work)
    if name == "int8-dynamic":
        return write_dynamic(work)
    noise = noise_calibration(work.interface, work.seed, work.golden.inputs)
    given = work.options.calibration
    assert given is not None
    if work.options.noise:
        return write_int8(work, noise, noise)
    if has_images(given):
        return write_int8(work, calibration_of(given, image_samples(given, facts), work.interface), noise)
    return write_int8(work, read_calibration(given, work.interface), noise)
