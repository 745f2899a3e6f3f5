"""The inputs of a proof: the user's own, or seeded ones that are drawn again until they excite every output.

An untrained network with inputs in [0, 1] often gives nearly the same output for all of them, and a ReLU may be zero
for each. Other inputs are then a better test than a doubtful verdict. What the user states is never exceeded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.core.arrays import FILE_ERRORS
from converter.core.data import Array, Arrays, Source, TensorSpec
from converter.core.errors import InputError, UsageError
from converter.core.samples import InputOptions, Span, generate, input_ranges, sample_shape
from converter.core.sequences import with_masks
from converter.core.text import first_line
from converter.core.texts import as_bytes
from converter.pipeline.text_inputs import TEXT, texts
from converter.sources.ranges import index_counts, mask_values
from converter.tracing.lookups import lookups
from converter.tracing.signature import Signature

INDICES = ("int32", "int64", "uint32", "uint64", "int16", "uint16")
"""Types of inputs that may be indices into a table."""


@dataclass(frozen=True)
class Draw:
    """Inputs of one kind, by name, shape (samples, ...)."""

    name: str
    inputs: dict[str, Array]


@dataclass(frozen=True)
class _Kind:
    """How seeded inputs are drawn: smooth images or noise, in a range for each kind of number."""

    name: str
    floats: Span | None
    integers: Span
    noise: bool = False


KINDS = (
    _Kind("images", None, (0.0, 9.0)),
    _Kind("images of twice the contrast", (-1.0, 1.0), (0.0, 1.0)),
    _Kind("noise", (-1.0, 1.0), (0.0, 99.0), noise=True),
    _Kind("pixels up to 255", (0.0, 255.0), (0.0, 2.0)),
)
"""The most natural first. Of an input whose range is known, only whether it is noise differs."""


def draws(source: Source, signature: Signature, options: InputOptions, count: int, seed: int) -> Iterator[Draw]:
    """Inputs for a proof, the most natural first: those of the file, or seeded ones.

    Raises UsageError for a range or a size that does not fit the inputs, InputError for a file that does not.
    """
    specs = signature.inputs
    if options.file is not None:
        yield Draw(f"the inputs of {options.file.name}", from_file(options.file, specs))
        return
    sizes = dict(options.shapes or sizes_of(specs, options.sizes))
    known = _known_ranges(source, signature, options.span)
    masks = zip(specs, mask_values(source.model), strict=False)
    masked = {spec.name: value for spec, value in masks if value is not None}
    numeric = tuple(spec for spec in specs if spec.dtype != TEXT)
    for kind in KINDS:
        ranges = {}
        for spec in specs:
            span = kind.integers if spec.dtype.startswith(("int", "uint")) else kind.floats
            if span is not None and spec.dtype not in ("bool", "uint8", "int8", TEXT):
                ranges[spec.name] = span
        drawn = with_masks(generate(numeric, count, seed, {**ranges, **known}, sizes, kind.noise), masked)
        yield Draw(kind.name, {**drawn, **texts(source.model, specs, count, seed)})


def other_sizes(specs: tuple[TensorSpec, ...], inputs: Arrays) -> Iterator[dict[str, tuple[int, ...]]]:
    """Sizes that differ from those of `inputs` at every dynamic axis: odd and not square first, then multiples of 2…32.

    Nothing if no axis but the batch is dynamic. A network may refuse a size, such as one that cannot be halved.
    """
    dynamic = {spec.name: [axis for axis, size in enumerate(spec.shape[1:]) if size is None] for spec in specs}
    if not any(dynamic.values()):
        return
    for step in (1, 2, 4, 8, 16, 32):
        found = {}
        for spec in specs:
            shape = list(inputs[spec.name].shape[1:])
            for place, axis in enumerate(dynamic[spec.name]):
                size = max(1, shape[axis] * (3 - place % 2) // 4 // step) * step
                odd = size + 1 - size % 2 if step == 1 else size
                shape[axis] = odd if odd != shape[axis] else odd + step * (2 if step == 1 else 1)
            found[spec.name] = tuple(shape)
        yield found


def from_file(path: Path, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """The arrays of an .npz file, checked against the inputs of the model. Raises InputError."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except FILE_ERRORS as error:
        raise InputError(f"--inputs {path}: not a readable .npz file: {first_line(error, 120)}") from error
    names = [spec.name for spec in specs]
    if len(specs) == 1 and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    if sorted(arrays) != sorted(names):
        has = ", ".join(sorted(arrays)) or "nothing"
        raise InputError(f"--inputs {path}: has {has}; the inputs of the model are {', '.join(names)}")
    for spec in specs:
        array = arrays[spec.name]
        wanted = "x".join("any" if size is None else str(size) for size in spec.shape[1:])
        fits = array.ndim == len(spec.shape) and all(
            size in (None, given) for size, given in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or array.dtype.kind not in ("SU" if spec.dtype == TEXT else "fiub"):
            raise InputError(f"--inputs {path}: {spec.name} has shape {array.shape}; expected samples x {wanted}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"--inputs {path}: {spec.name} contains NaN or Inf")
        arrays[spec.name] = as_bytes(array) if spec.dtype == TEXT else array.astype(spec.dtype)
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or min(counts) < 2:
        raise InputError(f"--inputs {path}: give at least two samples, and as many of each input")
    seen: dict[bytes, int] = {}
    for index in range(counts.pop()):
        key = b"".join(np.ascontiguousarray(arrays[name][index]).tobytes() for name in names)
        if seen.setdefault(key, index) != index:
            raise InputError(f"--inputs {path}: samples {seen[key]} and {index} are equal; give different ones")
    return arrays


def sizes_of(specs: tuple[TensorSpec, ...], given: Mapping[str, int] | None) -> dict[str, tuple[int, ...]]:
    """The shape of a sample for each input with dynamic axes, with the sizes that the user gave for them.

    Raises UsageError for an axis that no input has, or that is not dynamic.
    """
    if not given:
        return {}
    used = set()
    result = {}
    for spec in specs:
        shape, letters = list(sample_shape(spec)), _letters(spec)
        for axis, size in enumerate(spec.shape[1:]):
            key = next((each for each in (letters[axis], str(axis + 1)) if each in given), None)
            if size is None and key is not None:
                shape[axis] = given[key]
                used.add(key)
        if None in spec.shape[1:]:
            result[spec.name] = tuple(shape)
    for key in given:
        if key not in used:
            raise UsageError(f"--dynamic-size {key}={given[key]}: no input has a dynamic axis {key}")
    return result


def _letters(spec: TensorSpec) -> list[str]:
    """The letter of each axis after the batch: D, H, W for space, L for a sequence, C for channels."""
    space = {1: "L", 2: "HW", 3: "DHW"}.get(len(spec.shape) - 2, "")
    axes = list(space.ljust(max(0, len(spec.shape) - 2), "?"))
    return ["C", *axes] if spec.layout == "nchw" else [*axes, "C"][: len(spec.shape) - 1]


def _known_ranges(source: Source, signature: Signature, span: Span | None) -> dict[str, Span]:
    """The ranges that the user, the preprocessing, or a lookup in the model fixes, by input name."""
    specs = signature.inputs
    if span is not None:
        return {spec.name: span for spec in specs if spec.dtype not in ("bool", TEXT)}
    counts = index_counts(source.model)
    if any(spec.dtype in INDICES for spec in specs):  # found in layers of any kind, and in nested models
        sizes = [each.size for each in lookups(source.model, signature)]
        counts = [size or count for size, count in itertools.zip_longest(sizes, counts, fillvalue=0)]
    looked_up = {spec.name: (0.0, count - 1.0) for spec, count in zip(specs, counts, strict=False) if count > 1}
    return {**(input_ranges(source.preprocessing, specs) or {}), **looked_up}
