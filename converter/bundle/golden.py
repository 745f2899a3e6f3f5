"""golden.npz: the seeded inputs and Keras's outputs, as plain arrays that numpy alone can read.

An uncompressed zip of .npy entries, named "input/NAME", "reference/NAME", "exact/NAME", "single/NAME" and
"control/CONTROL/NAME"; the arrays of another input size have "resized/" before that. Keras names may contain any
character, so each name is percent-encoded; only letters, digits, "_", "-" and "~" stay. The same arrays produce the
same bytes.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

import numpy as np

from converter.core.arrays import HEADER_ERRORS
from converter.core.data import Array, Golden, Interface, TensorSpec
from converter.core.errors import InputError, OutputError
from converter.core.text import first_line

MAX_BYTES = 4 << 30
MAX_ENTRIES = 4096
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip can store
EXPORT_AGAIN = "export the model again"
_RESIZED = "resized/"


def write_golden(path: Path, golden: Golden) -> None:
    """Write `golden` to `path`. Raises OutputError if that fails or if an array is not numeric."""
    entries = _to_entries(golden)
    if golden.resized is not None:
        entries |= {_RESIZED + key: array for key, array in _to_entries(golden.resized).items()}
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for key, array in entries.items():
                if array.dtype.kind not in "fiubS":
                    raise OutputError(f"{path.name}: {key} has dtype {array.dtype}, no plain number and no bytes")
                with archive.open(zipfile.ZipInfo(f"{key}.npy", EPOCH), "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error


def read_golden(path: Path, interface: Interface) -> Golden:
    """The arrays in `path`, checked against the inputs and outputs of the model.

    Every array has the dtype of its spec and the same shape after the sample axis. Inputs and references have the same
    number of samples, at least 1; the others have at most as many. `exact` has every output in float64, or none; each
    control has every output. Pickles are not read and nothing is decompressed. Raises InputError, naming the file and
    the array, for anything else, and for NaN or Inf.
    """
    entries = _entries(path)
    other = {key.removeprefix(_RESIZED): array for key, array in entries.items() if key.startswith(_RESIZED)}
    golden = _golden(path, {key: array for key, array in entries.items() if not key.startswith(_RESIZED)}, interface)
    return replace(golden, resized=_golden(path, other, interface)) if other else golden


def read_inputs(path: Path, interface: Interface) -> list[dict[str, Array]]:
    """The inputs in `path` by name, and those of another size if there are any; nothing else is read.

    Raises InputError as `read_golden` does.
    """
    entries = _entries(path, ("input/", f"{_RESIZED}input/"))
    found: list[dict[str, Array]] = []
    for prefix in ("input/", f"{_RESIZED}input/"):
        own = {unquote(key.removeprefix(prefix)): array for key, array in entries.items() if key.startswith(prefix)}
        if own or not found:
            _check(path, "input", own, interface.inputs)
            found.append(own)
    return found


def _to_entries(golden: Golden) -> dict[str, Array]:
    sides = {"input": golden.inputs, "reference": golden.references, "exact": golden.exact, "single": golden.single}
    entries = {
        f"{kind}/{_encode_name(name)}": array for kind, arrays in sides.items() for name, array in arrays.items()
    }
    for control, arrays in golden.controls.items():
        entries |= {f"control/{_encode_name(control)}/{_encode_name(name)}": array for name, array in arrays.items()}
    return entries


def _golden(path: Path, entries: Mapping[str, Array], interface: Interface) -> Golden:
    """The arrays of one input size, checked."""
    sides: dict[str, dict[str, Array]] = {"input": {}, "reference": {}, "exact": {}, "single": {}}
    controls: dict[str, dict[str, Array]] = {}
    for key, array in entries.items():
        kind, *quoted = key.split("/")
        names = [unquote(part) for part in quoted]
        if "/".join([kind, *map(_encode_name, names)]) != key or not all(names):
            raise _invalid(path, f"unexpected entry {key!r}")
        if kind in sides and len(names) == 1:
            sides[kind][names[0]] = array
        elif kind == "control" and len(names) == 2:
            controls.setdefault(names[0], {})[names[1]] = array
        else:
            raise _invalid(path, f"unexpected entry {key!r}")
    references = sides["reference"]
    samples = _length(path, "", {**{f"input {name}": each for name, each in sides["input"].items()}, **references})
    _check(path, "input", sides["input"], interface.inputs)
    _check(path, "reference", references, interface.outputs)
    specs = [replace(spec, shape=(None, *references[spec.name].shape[1:])) for spec in interface.outputs]
    first = {"exact": sides["exact"], "single": sides["single"]}
    first |= {f"control {control}": arrays for control, arrays in controls.items()}
    for kind, arrays in first.items():
        if arrays:
            wanted = [replace(spec, dtype="float64") for spec in specs] if kind == "exact" else specs
            count = _length(path, f"{kind}: ", arrays)
            _check(path, kind, arrays, wanted)
            if count > samples:
                raise _invalid(path, f"{kind}: has {count} samples, more than the {samples} references")
    if sides["single"] and {*map(len, sides["single"].values())} != {*map(len, sides["exact"].values())}:
        raise _invalid(path, "exact and single have different numbers of samples")
    return Golden(sides["input"], references, sides["exact"], controls, sides["single"])


def _length(path: Path, where: str, arrays: Mapping[str, Array]) -> int:
    """The number of samples, which all `arrays` have in common."""
    samples = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(samples) != 1 or 0 in samples:
        lengths = ", ".join(map(str, sorted(samples))) or "no arrays"
        raise _invalid(path, f"{where}every array must have the same number of samples, at least 1; found {lengths}")
    return samples.pop()


def _encode_name(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


def _invalid(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; {EXPORT_AGAIN}")


def _check(path: Path, kind: str, arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> None:
    """Check the names, dtypes and shapes of `arrays` against `specs`, and that all values are finite."""
    wanted = {spec.name for spec in specs}
    for name in sorted(wanted ^ set(arrays)):
        what = "is missing" if name in wanted else "does not belong to this model"
        raise _invalid(path, f"{kind} {name!r} {what}")
    for spec in specs:
        array = arrays[spec.name]
        where = f"{kind} {spec.name!r}"
        if ("string" if array.dtype.kind == "S" else str(array.dtype)) != spec.dtype:
            raise _invalid(path, f"{where} has dtype {array.dtype} instead of {spec.dtype}")
        fits = len(array.shape) == len(spec.shape) and all(
            axis in (None, size) for axis, size in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or not array.size:
            shape = " x ".join(["samples", *("any" if axis is None else str(axis) for axis in spec.shape[1:])])
            raise _invalid(path, f"{where} has shape {array.shape} instead of {shape}")
        if array.dtype.kind != "S" and not np.isfinite(array).all():
            raise _invalid(path, f"{where} contains NaN or Inf")


def _entries(path: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, Array]:
    """The arrays of the file whose names start with one of `prefixes`, by name without ".npy". Raises InputError."""
    try:
        with path.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _invalid(path, "not a file")
            size = os.fstat(stream.fileno()).st_size
            with zipfile.ZipFile(stream) as archive:
                infos = archive.infolist()
                _check_sizes(path, infos, size)
                wanted = [info for info in infos if info.filename.startswith(prefixes)]
                return {info.filename.removesuffix(".npy"): _array(path, archive, info) for info in wanted}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; {EXPORT_AGAIN}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error, ValueError) as error:
        raise _invalid(path, f"damaged, or not written by cnnexport ({first_line(error, 120)})") from error


def _check_sizes(path: Path, infos: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Refuse, before reading, a file whose arrays need more memory than the size of the file or `MAX_BYTES`."""
    names = {info.filename for info in infos}
    if len(names) != len(infos):
        raise _invalid(path, "an entry occurs twice")
    if len(infos) > MAX_ENTRIES:
        raise _invalid(path, f"{len(infos)} entries, more than any export has")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise _invalid(path, f"entry {info.filename!r} is compressed or encrypted; cnnexport writes neither")
        if not info.filename.endswith(".npy"):
            raise _invalid(path, f"unexpected entry {info.filename!r}")
    total = sum(info.file_size for info in infos)
    if total > min(size, MAX_BYTES):
        raise _invalid(path, f"declares {total} bytes of arrays in a file of {size} (at most {MAX_BYTES} are read)")


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One entry as an array with its own memory.

    Raises InputError, or the errors of zipfile and numpy for damaged data.
    """
    with archive.open(info) as entry:
        data = bytearray(entry.read())
    if len(data) != info.file_size:
        raise _invalid(path, f"entry {info.filename!r} is shorter than declared")
    header = io.BytesIO(data[:65536])
    shape, fortran, dtype = _header(header)
    if dtype.kind not in "fiubS" or dtype.hasobject or not dtype.itemsize:
        raise _invalid(path, f"entry {info.filename!r} has dtype {dtype}, which is not a plain number")
    if math.prod(shape) * dtype.itemsize != len(data) - header.tell():
        raise _invalid(path, f"entry {info.filename!r} declares shape {shape} but contains another number of values")
    flat: Array = np.frombuffer(data, dtype=dtype, offset=header.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array with a .npy version other than 1.0")
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except HEADER_ERRORS as error:
        raise ValueError(f"an array with a header that is none: {error}") from error
    if any(size < 0 for size in shape):
        raise ValueError("an array with a negative size")
    return shape, fortran, dtype
