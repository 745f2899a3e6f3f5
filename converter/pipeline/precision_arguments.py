"""Checks the keywords of other precisions than float32 before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from converter.core.errors import InputError, UsageError
from converter.core.foreign import Given
from converter.core.precision import AUTO, FORMATS, METHODS, NOISE, PRECISIONS, TARGETS, PrecisionOptions
from converter.data.samples import BUILT_IN

KEYWORDS = ("precision", "calibration", "calibration_method", "keep_float", "int8_target", "float16_io")
"""The keywords of `converter.export` that make `PrecisionOptions`"""

Choice = TypeVar("Choice", bound=str)


def precision_options(options: PrecisionOptions, given: Given) -> PrecisionOptions:
    """`options` with its values replaced by `given`, whose values are lists of names and a path already.

    Raises UsageError for a wrong value, and where one would have no effect; InputError for a calibration that does not
    exist.
    """
    names = tuple(dict.fromkeys(each.lower() for each in given.get("precision", options.names)))
    for name in names:
        if name not in PRECISIONS:
            guess = difflib.get_close_matches(name, PRECISIONS, n=1, cutoff=0.4)
            hint = f"did you mean {guess[0]}? " if guess else ""
            raise UsageError(
                f"--precision {name or '(none)'}: no such precision\n{hint}choose from {_listed(PRECISIONS)}"
            )
    calibration = given.get("calibration", options.calibration)
    keep = tuple(given.get("keep_float", options.keep_float))
    keep = (AUTO,) if [each.lower() for each in keep] == [AUTO] else keep
    result = replace(
        options,
        names=names,
        calibration=calibration,
        method=_choice("calibration-method", given.get("calibration_method", options.method), METHODS),
        keep_float=keep,
        target=_choice("int8-target", given.get("int8_target", options.target), TARGETS),
        half_ports=given.get("float16_io", options.half_ports),
    )
    _check(result, given)
    return result


def check_formats(options: PrecisionOptions, formats: Collection[str]) -> None:
    """Raise UsageError if none of `formats` can hold the precisions."""
    if options.names and not set(FORMATS) & set(formats):
        raise UsageError(
            f"--precision {', '.join(options.names)}: {', '.join(formats)} holds float32 only\n"
            f"add --format {' or --format '.join(FORMATS)}"
        )


def _check(options: PrecisionOptions, given: Given) -> None:
    int8 = "int8" in options.names
    if int8 and options.calibration is None:
        raise UsageError(
            "--precision int8: needs samples of real inputs\n"
            "add --calibration FILE.npz, or a folder of images or arrays; int8-weights needs none"
        )
    if given.get("int8_target") is not None and not {"int8", "int8-dynamic"} & set(options.names):
        raise UsageError("--int8-target: has no effect without --precision int8")
    for name in ("calibration", "calibration_method", "keep_float"):
        if name in given and given[name] not in (None, ()) and not int8:
            raise UsageError(f"--{name.replace('_', '-')}: has no effect without --precision int8")
    if given.get("float16_io") and "fp16" not in options.names:
        raise UsageError("--float16-io: has no effect without --precision fp16")
    if AUTO in options.keep_float and len(options.keep_float) > 1:
        raise UsageError("--keep-float: give auto alone, or the names of layers")
    if int8 and options.calibration is not None and not _known(options):
        raise InputError(
            f"--calibration {options.calibration}: no such file or folder\n({NOISE} calibrates by seeded noise)"
        )


def _known(options: PrecisionOptions) -> bool:
    """Whether the calibration is noise, a built-in set of images, or exists."""
    path = Path(options.calibration or "")
    return options.noise or str(path) in BUILT_IN or path.exists()


def _choice(name: str, value: Choice, choices: tuple[Choice, ...]) -> Choice:
    if value not in choices:
        raise UsageError(f"--{name} {value}: choose from {_listed(choices)}")
    return value


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)
