"""The samples that int8 is calibrated with: read, checked, and divided into those that calibrate and those that prove.

`folder` is the one place where folders are read: an .npz file with an array for each input, or .npy files of one
sample or of several, in the order of their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.core.arrays import FILE_ERRORS
from converter.core.data import Array, Arrays, Interface, TensorSpec
from converter.core.errors import InputError
from converter.core.foreign import Facts
from converter.core.precision import Method
from converter.core.samples import generate
from converter.core.text import first_line
from converter.data.fingerprint import DIGITS, array_hash

FEWEST = 8
MOST_PROVING = 64
_SHARE = 4  # one sample of so many proves
_NOISE_SAMPLES = 64


@dataclass(frozen=True)
class Calibration:
    """Samples by input name: those that calibrate, and those that prove; no sample is in both.

    `sha256` is of all samples, `hashes` has the first 16 digits of the hash of each that calibrates.
    """

    calibrating: Arrays
    proving: Arrays
    source: str
    sha256: str
    hashes: tuple[str, ...]

    def facts(self, method: Method) -> Facts:
        """What a manifest says of it."""
        return {
            "source": self.source,
            "sha256": self.sha256,
            "method": method,
            "samples": len(self.hashes),
            "proving_samples": len(next(iter(self.proving.values()))),
        }


def read_calibration(path: Path, interface: Interface) -> Calibration:
    """The samples in `path`, an .npz file or a folder. One of four, at least two, prove and do not calibrate.

    A sample that occurs twice is taken once. Raises InputError for a file that cannot be read, an input without an
    array, a wrong shape, NaN or Inf, and for fewer than eight different samples.
    """
    if path.is_dir():
        arrays = folder(path, interface.inputs)
    elif path.suffix == ".npz" and path.is_file():
        arrays = _of_npz(path, interface.inputs)
    else:
        what = "expected an .npz file or a folder" if path.exists() else "no such file or folder"
        raise InputError(f"--calibration {path}: {what}")
    return calibration_of(path, arrays, interface)


def calibration_of(path: Path, arrays: Arrays, interface: Interface) -> Calibration:
    """The calibration with `arrays`, by input name, that were read from `path`. Raises InputError as above."""
    checked = {spec.name: _checked(path, spec, arrays[spec.name]) for spec in interface.inputs}
    counts = {name: len(array) for name, array in checked.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"--calibration {path}: the inputs have different numbers of samples: {listed}")
    return _divided(checked, path.name, path)


def noise_calibration(interface: Interface, seed: int, like: Arrays) -> Calibration:
    """Seeded noise in place of data, with the sizes of the inputs in `like` and between their extremes."""
    spans = {name: (float(array.min()), float(array.max())) for name, array in like.items()}
    ranges = {name: span for name, span in spans.items() if span[0] < span[1]}
    sizes = {spec.name: like[spec.name].shape[1:] for spec in interface.inputs if None in spec.shape[1:]}
    drawn = generate(interface.inputs, _NOISE_SAMPLES, seed + 1, ranges, sizes, noise=True)
    return _divided(drawn, "noise", Path("noise"))


def faint(noise: Calibration) -> Arrays:
    """The calibrating samples of `noise` with a tenth of the contrast: what no network's ranges follow from."""
    return {name: _faint(array) for name, array in noise.calibrating.items()}


def _faint(array: Array) -> Array:
    """A tenth of the distance from the mean; of integers, which may be indices, every sample the first."""
    if array.dtype.kind != "f":
        return np.repeat(array[:1], len(array), axis=0)
    mean = array.mean(dtype=np.float64)
    return np.asarray(mean + 0.1 * (array - mean), array.dtype)


def folder(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The samples in the .npz and .npy files of a folder, in the order of their names, by input name.

    An .npy file is for models of one input: one sample, or several on its first axis. Raises InputError.
    """
    files = sorted(each for each in path.iterdir() if each.suffix in (".npz", ".npy") and each.is_file())
    if not files:
        raise InputError(f"--calibration {path}: has no .npz and no .npy file")
    pieces: dict[str, list[Array]] = {spec.name: [] for spec in specs}
    for file in files:
        if file.suffix == ".npz":
            found = _of_npz(file, specs)
        elif len(specs) == 1:
            found = {specs[0].name: _batched(_read(file), specs[0])}
        else:
            raise InputError(f"--calibration {file}: the model has {len(specs)} inputs; give .npz files")
        for name, array in found.items():
            pieces[name].append(array)
    try:
        return {name: np.concatenate(arrays) for name, arrays in pieces.items()}
    except ValueError as error:
        raise InputError(f"--calibration {path}: the files have different shapes: {first_line(error)}") from error


def _read(file: Path) -> Array:
    try:
        with file.open("rb") as stream:
            return np.asarray(np.load(stream, allow_pickle=False))
    except FILE_ERRORS as error:
        raise InputError(
            f"--calibration {file}: not a readable {file.suffix} file: {first_line(error, 120)}"
        ) from error


def _of_npz(file: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The array of each input; other arrays, such as labels, are left out."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = archive.files
            wanted = {spec.name: spec.name for spec in specs if spec.name in names}
            if len(specs) == 1 and len(names) == 1:
                wanted = {specs[0].name: names[0]}
            arrays = {name: np.asarray(archive[key]) for name, key in wanted.items()}
    except FILE_ERRORS as error:
        raise InputError(f"--calibration {file}: not a readable .npz file: {first_line(error, 120)}") from error
    for spec in specs:
        if spec.name not in arrays:
            has = ", ".join(names) or "nothing"
            raise InputError(f"--calibration {file}: has {has}, but no array {spec.name}, an input of the model")
        arrays[spec.name] = _batched(arrays[spec.name], spec)
    return arrays


def _batched(array: Array, spec: TensorSpec) -> Array:
    """`array` with the samples on its first axis."""
    return array[None] if array.ndim == len(spec.shape) - 1 else array


def _checked(path: Path, spec: TensorSpec, array: Array) -> Array:
    """`array` in the type of `spec`, if it has its shape and is finite."""
    wanted = "x".join("any" if size is None else str(size) for size in spec.shape[1:])
    fits = array.ndim == len(spec.shape) and all(
        size in (None, given) for size, given in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or array.dtype.kind not in "fiub":
        raise InputError(
            f"--calibration {path}: {spec.name} has shape {array.shape} and type {array.dtype}; "
            f"expected numbers, samples x {wanted}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"--calibration {path}: {spec.name} contains NaN or Inf")
    return np.ascontiguousarray(array.astype(spec.dtype))


def _divided(arrays: Arrays, source: str, path: Path) -> Calibration:
    count = len(next(iter(arrays.values())))
    hashes: dict[str, int] = {}
    for index in range(count):
        hashes.setdefault(array_hash(arrays, index), index)
    if len(hashes) < FEWEST:
        same = f", {len(hashes)} of them different" if len(hashes) < count else ""
        raise InputError(
            f"--calibration {path}: has {count} samples{same}; at least {FEWEST} different ones are needed"
        )
    order = list(hashes.items())
    step = max(_SHARE, -(-len(order) // MOST_PROVING))
    proving = [index for _, index in order[step - 1 :: step]] if len(order) >= 2 * step else []
    if len(proving) < 2:
        proving = [index for _, index in order[-2:]]
    inside = set(proving)
    rest = [(key, index) for key, index in order if index not in inside]
    every = hashlib.sha256("".join(hashes).encode()).hexdigest()
    chosen = [index for _, index in rest]
    return Calibration(
        {name: array[chosen] for name, array in arrays.items()},
        {name: array[proving] for name, array in arrays.items()},
        source,
        every,
        tuple(key[:DIGITS] for key, _ in rest),
    )
