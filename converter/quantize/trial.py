"""Runs several files of one format on the same inputs in one child: `python -m converter.quantize.trial`, with a job.

For measurements that decide about a file: noise, controls, the sensitivity of layers. What is delivered is run again by
the proof, each file in a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from converter.bundle.manifest import artifact_from_json
from converter.core.data import Array, Arrays, Artifact, TensorSpec
from converter.core.foreign import Json
from converter.core.jsonable import Fields
from converter.proof import isolate
from converter.proof.child import as_declared, as_keras, in_batches, main
from converter.proof.domains import measure
from converter.runtimes import RUNTIMES

CHILD = "converter.quantize.trial"
Noise = Mapping[str, tuple[float, float]]
"""Relative L2 and relative maximum of the worst sample, by output"""


@dataclass(frozen=True)
class TrialJob:
    """Run each of `files`, which have the inputs and outputs of `artifact`, on the arrays in `inputs`."""

    artifact: Artifact
    files: tuple[str, ...]
    runtime: str
    inputs: Path
    outputs: Path


def outputs_of(artifact: Artifact, files: Sequence[Path], runtime: str, inputs: Arrays) -> list[dict[str, Array]]:
    """The outputs of each file by name, in the layout of Keras; all samples in one batch, or in the file's own.

    Raises ChildError, and the errors of the runtime.
    """
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        given, results = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        np.savez(given, allow_pickle=False, **{quote(name, safe=""): array for name, array in inputs.items()})
        job = TrialJob(artifact, tuple(map(str, files)), runtime, given, results)
        isolate.call(CHILD, job, f"{runtime} on {artifact.path}", runtime=runtime)
        found: list[dict[str, Array]] = [{} for _ in files]
        with np.load(results, allow_pickle=False) as arrays:
            for key in arrays.files:
                place, _, name = key.partition("/")
                found[int(place)][unquote(name)] = arrays[key]
    return found


def error(specs: Mapping[str, TensorSpec], reference: Arrays, actual: Arrays) -> Noise:
    """How far `actual` is from `reference`, by output; infinite where it has NaN or another shape."""
    found = {}
    for name, spec in specs.items():
        one, other = reference[name], actual.get(name)
        if other is None or one.shape != other.shape or not np.isfinite(other).all():
            found[name] = (float("inf"), float("inf"))
            continue
        distances = [measure(*pair, spec.activation) for pair in zip(one, other, strict=True)]
        found[name] = max(each.relative_l2 for each in distances), max(each.relative_max for each in distances)
    return found


def run(raw: Json) -> dict[str, int]:
    """Do the `TrialJob` in `raw`."""
    fields = Fields(raw, "job")
    artifact = artifact_from_json(fields.get("artifact", dict))
    with np.load(fields.get("inputs", str), allow_pickle=False) as given:
        arrays = {unquote(name): given[name] for name in given.files}
    inputs = {spec.name: as_declared(arrays[spec.name], spec) for spec in artifact.inputs}
    batch = artifact.inputs[0].shape[0] or len(next(iter(inputs.values())))
    results = {}
    for place, name in enumerate(fields.strings("files")):
        path = Path(name)
        prepared = RUNTIMES[fields.get("runtime", str)].prepare(path, replace(artifact, path=path.name), "cpu")
        for output, array in in_batches(prepared.run, inputs, batch).items():
            results[f"{place}/{quote(output, safe='')}"] = as_keras(array, output, artifact, {})
    np.savez(fields.get("outputs", str), allow_pickle=False, **results)
    return {"files": len(fields.strings("files"))}


if __name__ == "__main__":
    main(run)
