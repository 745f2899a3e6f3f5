"""Checks the arguments of the API functions before anything is loaded: unknown names, wrong types, wrong values.

A message names the argument and the expected value. The keywords are defined in `converter.pipeline.options`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import replace
from os import fspath
from pathlib import Path
from typing import get_args

from converter.core.data import Shape, ShapesByInput, SourceOptions
from converter.core.errors import InputError, OutputError, UsageError
from converter.core.foreign import Given
from converter.core.limits import limits_of
from converter.core.samples import InputOptions
from converter.data.about import check_given
from converter.pipeline.checks import (
    names_in,
    path_of,
    refuse_unknown,
    require_choice,
    require_flag,
    require_whole,
    type_name,
)
from converter.pipeline.options import (
    ExportKeywords,
    ExportOptions,
    Groups,
    Layout,
    SourceKeywords,
    VerifyKeywords,
)
from converter.pipeline.precision_arguments import KEYWORDS, check_formats, precision_options
from converter.proof.plan import ProofOptions, check_runtimes
from converter.report.baseline import GROWTH, Baseline, read_baseline


def export_options(options: ExportOptions | None, keywords: ExportKeywords) -> ExportOptions:
    """`options`, by default `ExportOptions()`, with its values replaced by `keywords`, all checked.

    Raises UsageError for an unknown keyword or an invalid value, OutputError for an output that is not a directory,
    InputError for a damaged baseline, and UnavailableError for a device that is not available.
    """
    if options is not None and not isinstance(options, ExportOptions):
        raise UsageError(
            f"options: expected ExportOptions, not {type_name(options)}\n"
            "pass single options as keywords, as in opset=17"
        )
    result = options or ExportOptions()
    refuse_unknown(keywords, ExportKeywords, "export")
    given: Given = dict(keywords)
    if "output" in given:
        given["output"] = None if given["output"] is None else path_of(given["output"], "output")
    if "formats" in given:
        given["formats"] = names_in(given["formats"], "formats")
        if not given["formats"]:
            raise UsageError("--format: no format given\nleave the option out to write all formats")
    for name in _TEXTS & given.keys():
        given[name] = None if given[name] is None else fspath(path_of(given[name], name))
    about = {name: given.pop(name) for name in _INPUTS & given.keys()}
    if about:
        given["inputs"] = _inputs(result.inputs, about)
    growth = given.pop("growth", None)
    if "baseline" in given or growth is not None:
        given["baseline"] = _baseline(given.get("baseline"), growth)
    precise = {name: given.pop(name) for name in KEYWORDS if name in given}
    for name in ("precision", "keep_float"):
        if name in precise:
            precise[name] = names_in(precise[name], name)
    if precise.get("calibration") is not None:
        precise["calibration"] = path_of(precise["calibration"], "calibration")
    if _LIMITS & given.keys():
        given["limits"] = limits_of(given.pop("memory_limit", None), given.pop("timeout", None))
    write = {name: given.pop(name) for name in _WRITE & given.keys()}
    source = {name: given.pop(name) for name in SourceKeywords.__annotations__.keys() & given.keys()}
    result = replace(
        result, write=replace(result.write, **write), source=source_options(source, result.source), **given
    )
    result = replace(
        result,
        formats=_formats(names_in(result.formats, "formats")),
        precision=precision_options(result.precision, precise),
    )
    if result.embed_preprocessing:
        result = replace(
            result, formats=_with_float64(result.formats, bool(given.get("formats") or (options and options.formats)))
        )
    check_formats(result.precision, result.formats)
    _check_values(result)
    return result


def source_options(keywords: Mapping[str, object], options: SourceOptions | None = None) -> SourceOptions:
    """`options`, by default `SourceOptions()`, with its values replaced by `keywords`, all checked.

    Raises UsageError for an invalid value.
    """
    given: Given = dict(keywords)
    if "custom_objects" in given:
        given["custom_objects"] = names_in(given["custom_objects"], "custom_objects")
    if given.get("weights") is not None:
        given["weights"] = fspath(path_of(given["weights"], "weights"))
    result = replace(options or SourceOptions(), **given)
    require_whole("seed", result.seed, at_least=0)
    if result.classes is not None:
        require_whole("classes", result.classes, at_least=1)
    for name, flag in (("trust", result.trust), ("logits", result.logits)):
        require_flag(name, flag)
    if not isinstance(result.kwargs, Mapping):
        raise UsageError(f"kwargs: expected a dict of arguments, not {type_name(result.kwargs)}")
    if result.builder is not None and not isinstance(result.builder, str):
        raise UsageError(f"builder: expected module:function, not {type_name(result.builder)}")
    return result if result.input_shape is None else replace(result, input_shape=_shapes(result.input_shape))


def verify_options(keywords: VerifyKeywords) -> tuple[ProofOptions, Baseline | None]:
    """The proof options in `keywords`, and the baseline to compare with. Raises the errors of `export_options`."""
    refuse_unknown(keywords, VerifyKeywords, "verify")
    tolerance = keywords.get("tolerance")
    _check_tolerance(tolerance)
    server = keywords.get("server") or ""
    if not isinstance(server, str):
        raise UsageError(f"server: expected an address as text, not {type_name(server)}")
    options = ProofOptions(
        runtimes=names_in(keywords.get("runtimes", ()), "runtimes"),
        device=keywords.get("device", "cpu"),
        tolerance=tolerance,
        every=False,
        limits=limits_of(keywords.get("memory_limit"), keywords.get("timeout")),
        server=server,
    )
    return options, _baseline(keywords.get("baseline"), keywords.get("growth"))


_LIMITS = {"memory_limit", "timeout"}
_WRITE = {"batch", "opset", "layout"}
_TEXTS = {"preprocessing", "labels"}
_INPUTS = {"inputs", "range", "dynamic_size"}


def _shapes(value: object) -> Shape | ShapesByInput:
    """One shape, or shapes by the name of the input; sizes are whole numbers of at least 1, None is any size."""
    if isinstance(value, Mapping) and value:
        return {str(name): _one_shape(shape, value) for name, shape in value.items()}
    return _one_shape(value, value)


def _one_shape(value: object, whole: object) -> Shape:
    sizes = list(value) if isinstance(value, tuple | list) else [0]
    if any(size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1) for size in sizes):
        raise UsageError(f"input_shape: expected sizes without the batch, as in (224, 224, 3), not {str(whole)[:60]}")
    return tuple(sizes)


def _baseline(value: object, growth: object) -> Baseline | None:
    if value is None:
        if growth is not None:
            raise UsageError("--growth: has no effect without a baseline\nadd --baseline report.json")
        return None
    if growth is not None and (isinstance(growth, bool) or not isinstance(growth, int | float)):
        raise UsageError(f"growth: expected a number, not {type_name(growth)}")
    if isinstance(value, Baseline):
        return value if growth is None else replace(value, growth=float(growth))
    return read_baseline(path_of(value, "baseline"), GROWTH if growth is None else float(growth))


def _formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names` in the spelling of `FORMATS`; all formats if there are none."""
    from converter.formats import FORMATS

    known = {name.lower().replace("_", "-"): name for name in FORMATS}
    for name in names:
        if name.lower().replace("_", "-") not in known:
            guess = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
            hint = f"did you mean {guess[0]}? " if guess else ""
            raise UsageError(f"--format {name or '(none)'}: no such format\n{hint}choose from {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(known[name.lower().replace("_", "-")] for name in names)) or tuple(FORMATS)


def _with_float64(formats: tuple[str, ...], chosen: bool) -> tuple[str, ...]:
    """The formats that can hold the resize of images, which computes in float64. Raises UsageError for a chosen one."""
    if chosen and "tflite" in formats:
        raise UsageError(
            "--embed-preprocessing: TFLite has no arithmetic in float64, in which the resize equals Pillow's\n"
            "add --format onnx,saved-model"
        )
    return tuple(each for each in formats if each != "tflite")


def _inputs(options: InputOptions, given: Mapping[str, object]) -> InputOptions:
    """`options` with what the user says about valid inputs. Raises UsageError for a wrong value, InputError for a file
    that does not exist."""
    result = options
    if given.get("inputs") is not None:
        file = path_of(given["inputs"], "inputs")
        if not file.is_file():
            raise InputError(f"--inputs {file}: no such file")
        result = replace(result, file=file)
    span = given.get("range")
    if span is not None:
        numbers = list(span) if isinstance(span, tuple | list) else []
        if len(numbers) != 2 or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
            raise UsageError(f"range: expected the lowest and the highest value, as in (0, 255), not {str(span)[:60]}")
        if not numbers[0] < numbers[1]:
            raise UsageError(f"--range {numbers[0]:g}:{numbers[1]:g}: is empty; give LOW:HIGH with LOW below HIGH")
        result = replace(result, span=(float(numbers[0]), float(numbers[1])))
    sizes = given.get("dynamic_size")
    if sizes:
        if not isinstance(sizes, Mapping):
            raise UsageError(f"dynamic_size: expected sizes by axis, as in {{'H': 128}}, not {type_name(sizes)}")
        for axis, size in sizes.items():
            require_whole(f"dynamic-size {axis}", size, at_least=1)
        result = replace(result, sizes={str(axis): size for axis, size in sizes.items()})
    if result.file is not None and (result.span is not None or result.sizes):
        raise UsageError("--inputs: the file states the inputs; leave --range and --dynamic-size out")
    return result


def require_samples(value: object) -> None:
    """Raise UsageError unless `value` samples are enough for a proof."""
    require_whole("samples", value, at_least=0)
    if value in (0, 1):
        raise UsageError(f"--samples {value}: a proof needs at least two samples")


def _check_values(options: ExportOptions) -> None:
    """Refuse all values that can be refused without the model."""
    from converter.formats.onnx import OPSETS

    write = options.write
    require_whole("opset", write.opset, at_least=1)
    if write.opset not in OPSETS:
        raise UsageError(f"--opset {write.opset}: out of range\nchoose from {OPSETS[0]} to {OPSETS[-1]}")
    if write.batch is not None:
        require_whole("batch", write.batch, at_least=1)
    if options.samples is not None:
        require_samples(options.samples)
    if isinstance(options.budget, bool) or not isinstance(options.budget, int | float) or not options.budget > 0:
        raise UsageError(f"--budget {options.budget}: give a number of seconds above 0")
    require_flag("force", options.force)
    require_flag("embed_preprocessing", options.embed_preprocessing)
    require_flag("float16_io", options.precision.half_ports)
    require_choice("layout", write.layout, get_args(Layout))
    require_choice("groups", options.groups, get_args(Groups))
    if write.layout == "nchw" and "onnx" not in options.formats:
        raise UsageError("--layout nchw: only ONNX can be channels-first, not TFLite or SavedModel\nadd --format onnx")
    if options.output is not None and Path(options.output).is_file():
        raise OutputError(f"{options.output}: is a file; --output needs a directory")
    check_given(options.preprocessing, options.labels)
    _check_tolerance(options.tolerance)
    require_device(options.device)


def require_device(device: object) -> None:
    """Raise UsageError for an unknown device name, UnavailableError for a device that is not available."""
    if not isinstance(device, str):
        raise UsageError(f"device: expected a name, not {type_name(device)}")
    check_runtimes((), device)


def _check_tolerance(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"tolerance: expected a number, not {type_name(value)}")
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"tolerance {value:g}: give a positive number, for example 1e-5")
