"""Runs a float file on samples and keeps what every tensor holds: `python -m converter.quantize.observe`, with a job.

The samples are divided into two halves, every other one, which are seen apart: how far their ranges differ says how
well the samples determine them. The job is on standard input, as for `converter.proof.child`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from converter.bundle.manifest import artifact_from_json
from converter.core.data import Array, Arrays, Artifact
from converter.core.foreign import Json
from converter.core.jsonable import Fields
from converter.proof import isolate
from converter.proof.child import as_declared, main
from converter.quantize.ranges import Seen
from converter.runtimes import RUNTIMES

CHILD = "converter.quantize.observe"
RUNTIMES_OF = {"onnx": "onnxruntime", "tflite": "litert"}
"""The runtime that a format is observed in; it has to give access to intermediate tensors"""

_AT_ONCE = 48  # tensors that are read in one run
_BATCH = 16  # samples that are run at a time
Halves = tuple[Seen, Seen]


@dataclass(frozen=True)
class ObserveJob:
    """Run `artifact` of `directory` on the arrays in the file `inputs`; write what `wanted` tensors hold to `outputs`.

    With `histograms` in a second run.
    """

    directory: Path
    artifact: Artifact
    inputs: Path
    outputs: Path
    wanted: tuple[str, ...]
    histograms: bool


def observe(
    directory: Path, artifact: Artifact, inputs: Arrays, wanted: Collection[str], *, histograms: bool
) -> dict[str, Halves]:
    """What each tensor of `wanted` held while `artifact` ran on `inputs`, for each half of the samples.

    Inputs of the model are among the tensors. Raises ChildError, and the errors of the runtime.
    """
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        given, results = Path(scratch, "inputs.npz"), Path(scratch, "seen.npz")
        np.savez(given, allow_pickle=False, **{quote(name, safe=""): array for name, array in inputs.items()})
        job = ObserveJob(directory, artifact, given, results, tuple(wanted), histograms)
        isolate.call(CHILD, job, f"the tensors of {artifact.path}")
        with np.load(results, allow_pickle=False) as found:
            return {unquote(key): _halves(found[key]) for key in found.files}


def run(raw: Json) -> dict[str, int]:
    """Do the `ObserveJob` in `raw`."""
    fields = Fields(raw, "job")
    artifact = artifact_from_json(fields.get("artifact", dict))
    path = Path(fields.get("directory", str), artifact.path)
    with np.load(fields.get("inputs", str), allow_pickle=False) as given:
        inputs = {unquote(name): given[name] for name in given.files}
    wanted = set(fields.strings("wanted"))
    declared = {spec.name: as_declared(inputs[spec.name], spec) for spec in artifact.inputs}
    seen: dict[str, list[Seen]] = {}
    for name, half, array in _tensors(path, artifact, declared, wanted):
        _add(seen, name, half, Seen.of(array))
    found = {name: (halves[0], halves[1]) for name, halves in seen.items() if len(halves) == 2}
    if fields.get("histograms", bool):
        for name, half, array in _tensors(path, artifact, declared, wanted):
            if name in found:
                halves = list(found[name])
                ends = min(each.low for each in halves), max(each.high for each in halves)
                halves[half] = halves[half].counted(array, ends)
                found[name] = (halves[0], halves[1])
    results = {quote(name, safe=""): np.stack([_row(each) for each in halves]) for name, halves in found.items()}
    np.savez(fields.get("outputs", str), allow_pickle=False, **results)
    return {"tensors": len(results)}


def _tensors(
    path: Path, artifact: Artifact, inputs: Arrays, wanted: Collection[str]
) -> Iterator[tuple[str, int, Array]]:
    """Name, half and values of each float tensor, for one batch of samples after the other."""
    read = RUNTIMES[RUNTIMES_OF[artifact.format]].tensors
    assert read is not None
    fixed = artifact.inputs[0].shape[0]
    count = len(next(iter(inputs.values())))
    given: set[str] = set()
    for watched in read(path, artifact, "cpu", wanted, _AT_ONCE):
        fresh: set[str] = set()
        for half in (0, 1):
            chosen = np.arange(half, count, 2)
            for start in range(0, len(chosen), fixed or _BATCH):
                index = chosen[start : start + (fixed or _BATCH)]
                index = np.resize(index, fixed or len(index))
                some = {name: np.ascontiguousarray(array[index]) for name, array in inputs.items()}
                for name, array in (*some.items(), *watched(some)):
                    if name in wanted and name not in given and array.dtype == np.float32 and array.size:
                        fresh.add(name)
                        yield name, half, array
        given |= fresh


def _add(seen: dict[str, list[Seen]], name: str, half: int, new: Seen) -> None:
    halves = seen.setdefault(name, [])
    if len(halves) == half:
        halves.append(new)
    else:
        halves[half] = halves[half] + new


def _row(seen: Seen) -> Array:
    figures = [seen.count, seen.low, seen.high, seen.absolute, seen.squares, *seen.ends]
    return np.concatenate([figures, [] if seen.bins is None else seen.bins]).astype(np.float64)


def _halves(rows: Array) -> Halves:
    """What `_row` wrote of both halves."""
    one, other = (
        Seen(
            count=int(row[0]),
            low=float(row[1]),
            high=float(row[2]),
            absolute=float(row[3]),
            squares=float(row[4]),
            bins=row[7:] if len(row) > 7 else None,
            ends=(float(row[5]), float(row[6])),
        )
        for row in rows
    )
    return one, other


def whole(halves: Mapping[str, Halves]) -> dict[str, Seen]:
    """What both halves together held."""
    return {name: one + other for name, (one, other) in halves.items()}


if __name__ == "__main__":
    main(run)
