"""Seeded inputs that resemble images, so that a network returns clearly different outputs for each of them.

White noise is a poor test input for a CNN: after a few pooling layers every sample has the same statistics, and the
outputs of two samples are almost equal. The images here are sums of random grids of 2, 4, 8, 16 and 32 cells per axis,
interpolated linearly, each sample with its own colour and contrast and a little noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from converter.core.data import Array, TensorSpec
from converter.core.errors import UsageError
from converter.core.foreign import Json

OCTAVES = ((2, 0.45), (4, 0.25), (8, 0.15), (16, 0.1), (32, 0.05))  # cells per axis, share of the contrast
NOISE = 0.02  # half width of the uniform noise, as a share of the range
DEFAULT_SIZES = {1: 256, 2: 224, 3: 32}  # of dynamic axes, by number of spatial axes
DEFAULT_CHANNELS = 3
DEFAULT_FEATURES = 16
BYTE_RANGES = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}

Float32 = npt.NDArray[np.float32]
Span = tuple[float, float]


@dataclass(frozen=True)
class InputOptions:
    """What the user says about valid inputs; None: nothing.

    `file` is an .npz file with an array for each input, shape (samples, ...). `span` is the lowest and the highest
    valid value. `sizes` are the sizes of dynamic axes, by the axis: "H", "W", "D", or the number of the axis. `shapes`
    are those of a sample by input, found out by trial.
    """

    file: Path | None = None
    span: Span | None = None
    sizes: Mapping[str, int] | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None


def generate(
    specs: Sequence[TensorSpec],
    count: int,
    seed: int,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
    noise: bool = False,
) -> dict[str, Array]:
    """Inputs by name, each of shape (count, *shape[1:]) and of the dtype of its spec.

    Every input has its own PCG64 stream, derived from `seed` and its name, so that it depends neither on the order of
    the specs nor on the other inputs. `ranges` has (lowest, highest) by input name; the default is (0, 1), and the
    whole range of the type for 8-bit integers. Integers include both ends. `sizes` has the shape without the batch axis
    for inputs with dynamic axes; by default these get `DEFAULT_SIZES`. Ranks 3 to 5 are images with a channel axis, any
    other rank is uniform noise; with `noise` every rank is.

    Raises UsageError for a count below 1, a negative seed, a range that is empty or does not fit the dtype, a dtype
    that is not numeric, and sizes or ranges for an unknown input or in conflict with a fixed axis.
    """
    if count < 1:
        raise UsageError(f"samples: {count} requested; give at least 1 (2 or more for a proof)")
    if seed < 0:
        raise UsageError(f"seed: {seed} is negative; give 0 or more")
    names = {spec.name for spec in specs}
    for option, given in (("range", ranges or {}), ("size", sizes or {})):
        for name in sorted(set(given) - names):
            raise UsageError(f"{option}: no input is called {name!r}; the inputs are {', '.join(sorted(names))}")
    inputs: dict[str, Array] = {}
    for spec in specs:
        shape = (count, *sample_shape(spec, (sizes or {}).get(spec.name)))
        dtype = _dtype(spec)
        low, high = _range(spec, dtype, (ranges or {}).get(spec.name))
        words = np.frombuffer(hashlib.sha256(spec.name.encode()).digest(), dtype="<u4")
        stream = np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words))
        rng = np.random.Generator(np.random.PCG64(stream))
        images = 3 <= len(shape) <= 5 and not noise
        unit = _images(rng, shape, channel_axis(spec)) if images else rng.random(shape, np.float32)
        inputs[spec.name] = _scale(unit, dtype, low, high)
    return inputs


def input_ranges(
    preprocessing: Mapping[str, Json], inputs: Sequence[TensorSpec]
) -> dict[str, tuple[float, float]] | None:
    """The range of valid values by input name, for `generate`; None if `preprocessing` does not define it."""
    span = preprocessing.get("range")
    return {spec.name: (float(span[0]), float(span[1])) for spec in inputs} if span else None


def reverse_channels(inputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array] | None:
    """`inputs` with the channel axis reversed where it has more than one channel; None if no input has.

    Only ranks 3 and up have a channel axis. Other inputs are returned unchanged.
    """
    changed = dict(inputs)
    reversible = False
    for spec in specs:
        array = inputs[spec.name]
        axis = channel_axis(spec)
        if array.ndim >= 3 and array.shape[axis] > 1:
            changed[spec.name] = np.ascontiguousarray(np.flip(array, axis))
            reversible = True
    return changed if reversible else None


def shuffle_positions(inputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array] | None:
    """`inputs` with their positions in another order, the same for every sample; None if no input has two positions.

    Positions are all axes but the batch and the channels; of an input of two axes, the features.
    """
    changed = dict(inputs)
    several = False
    for spec in specs:
        array = inputs[spec.name]
        moved = np.moveaxis(array, channel_axis(spec), -1) if array.ndim > 2 else array[..., None]
        flat = moved.reshape(len(array), -1, moved.shape[-1])
        if array.ndim < 2 or flat.shape[1] < 2:
            continue
        order = np.random.default_rng(flat.shape[1]).permutation(flat.shape[1])
        shuffled = flat[:, order].reshape(moved.shape)
        moved_back = np.moveaxis(shuffled, -1, channel_axis(spec)) if array.ndim > 2 else shuffled[..., 0]
        changed[spec.name] = np.ascontiguousarray(moved_back)
        several = True
    return changed if several else None


def channel_axis(spec: TensorSpec) -> int:
    """Index of the channel axis: 1 in layout "nchw", otherwise the last one."""
    return 1 if spec.layout == "nchw" else len(spec.shape) - 1


def sample_shape(spec: TensorSpec, given: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The shape of one sample, with every axis fixed."""
    declared = spec.shape[1:]
    if given is not None:
        fits = len(given) == len(declared) and all(
            size >= 1 and axis in (None, size) for size, axis in zip(given, declared, strict=True)
        )
        if not fits:
            wanted = "x".join("any" if axis is None else str(axis) for axis in declared)
            got = "x".join(str(size) for size in given)
            raise UsageError(f"input {spec.name}: size {got} does not fit its shape {wanted}")
        return given
    spatial = len(declared) - 1
    channel = channel_axis(spec) - 1
    sizes = []
    for index, axis in enumerate(declared):
        if axis is not None:
            sizes.append(axis)
        elif spatial not in DEFAULT_SIZES:
            sizes.append(DEFAULT_FEATURES)
        else:
            sizes.append(DEFAULT_CHANNELS if index == channel else DEFAULT_SIZES[spatial])
    return tuple(sizes)


def _dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    try:
        dtype: np.dtype[np.generic] = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise UsageError(f"input {spec.name}: samples cannot be generated for dtype {spec.dtype}")
    return dtype


def _range(spec: TensorSpec, dtype: np.dtype[np.generic], given: tuple[float, float] | None) -> tuple[float, float]:
    low, high = given if given is not None else BYTE_RANGES.get(dtype.name, (0.0, 1.0))
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        low, high = math.ceil(low) if math.isfinite(low) else low, math.floor(high) if math.isfinite(high) else high
        representable = limits.min <= low and high <= limits.max
    elif dtype.kind == "f":
        representable = max(abs(low), abs(high)) <= float(np.finfo(dtype.name).max)
    else:
        representable = True
    if not (math.isfinite(low) and math.isfinite(high) and low < high and representable):
        raise UsageError(f"input {spec.name}: range {low:g} to {high:g} is empty or does not fit {dtype.name}")
    return low, high


def _scale(unit: Float32, dtype: np.dtype[np.generic], low: float, high: float) -> Array:
    """`unit`, in [0, 1], scaled to [low, high]; integers, both ends included, are equally likely."""
    if dtype.kind == "b":
        return unit >= 0.5
    if dtype.kind == "f":
        wide = unit if dtype.itemsize <= 4 else unit.astype(np.float64)
        return np.asarray(np.clip(wide * (high - low) + low, low, high), dtype=dtype)
    steps = np.floor(unit.astype(np.float64) * (high - low + 1.0)) + low
    whole = np.minimum(steps, high)
    if dtype.itemsize < 8:
        return np.asarray(whole, dtype=dtype)
    # float64 cannot represent the ends of 64-bit ranges exactly, and casting 2**63 would wrap around
    limits = np.iinfo(dtype.name)
    safe = np.clip(whole, float(limits.min), np.nextafter(float(limits.max), 0.0))
    return np.asarray(safe, dtype=dtype)


def _images(rng: np.random.Generator, shape: tuple[int, ...], channel: int) -> Float32:
    """Random images in [0, 1] of `shape`, with the channel axis at index `channel`.

    The octaves are summed by one product: with A the interpolation matrix of an axis, the sum over octaves of A₁ G A₂ᵀ
    is the row of blocks [A₁ G …] times the stacked A₂ᵀ.
    """
    count, channels = shape[0], shape[channel]
    space = tuple(size for axis, size in enumerate(shape) if axis not in (0, channel))
    blocks, bases = [], []
    for cells, share in OCTAVES:
        grid = rng.random((count, channels, *(min(cells, size) for size in space)), np.float32) * 2 - 1
        for axis, size in enumerate(space[:-1], start=2):
            matrix = _interpolation(size, grid.shape[axis])
            grid = np.moveaxis(np.moveaxis(grid, axis, -1) @ matrix.T, -1, axis)
        blocks.append(grid * np.float32(share))
        bases.append(_interpolation(space[-1], grid.shape[-1]).T)
    relief = np.concatenate(blocks, axis=-1) @ np.concatenate(bases, axis=0)
    each = (count, channels, *(1 for _ in space))
    contrast = rng.uniform(0.5, 1.2, each).astype(np.float32)
    colour = rng.uniform(0.2, 0.8, each).astype(np.float32)
    noise = rng.random(relief.shape, np.float32)
    noise -= 0.5
    noise *= 2 * NOISE
    relief *= contrast
    relief += colour
    relief += noise
    np.clip(relief, 0.0, 1.0, out=relief)
    return np.ascontiguousarray(np.moveaxis(relief, 1, channel))


def _interpolation(size: int, cells: int) -> Float32:
    """Matrix of shape (size, cells) that interpolates linearly from `cells` grid points to `size`; rows sum to 1."""
    positions = np.linspace(0.0, cells - 1.0, size)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(positions - np.arange(cells))).astype(np.float32)
