"""What an artifact computes on the way, as sketches: `python -m converter.proof.layers_child`, a job on standard input.

How a runtime shows the tensors of a file is the runtime's own (`Runtime.tensors`); here each is sketched at once, so
that no more of them than the runtime holds is in memory. A process of its own for the reason that `converter.proof.child`
gives, and with the same protocol. `converter.proof.diagnosis` and `converter.pipeline.layer_record` are the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converter.proof.child import as_declared, in_batches, main
from converter.core.data import Array, Arrays, Watched
from converter.core.errors import UnavailableError
from converter.bundle.golden import read_golden
from converter.bundle.manifest import artifact_from_json, spec_from_json
from converter.runtimes import RUNTIMES
from converter.core.sketch import BUCKETS, sketch, to_text

PART = 256 << 20
"""Bytes of tensors that a runtime may keep at a time, by the mean size that the job gives."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Sketch the tensors named in job["tensors"] (None: every one) on the first job["samples"] golden inputs.

    job["layouts"] are those to sketch, job["mean_bytes"] is what one tensor takes for one sample, about; directory,
    artifact, runtime, device, inputs, output_specs and golden are as in `converter.proof.isolate.run_artifact`. The answer
    has, by name of those tensors that the file has, that are floating point and whose first axis is the batch, the
    number of "elements" of a sample and the sketch in each layout.
    """
    artifact = artifact_from_json(job["artifact"])
    path = Path(job["directory"], artifact.path)
    specs = [[spec_from_json(spec) for spec in job[key]] for key in ("inputs", "output_specs")]
    golden = read_golden(Path(job["golden"]), *specs)
    count, layouts = job["samples"], job["layouts"]
    inputs = {spec.name: as_declared(golden.inputs[spec.name][:count], spec) for spec in artifact.inputs}
    batch = artifact.inputs[0].shape[0] or count
    wanted = None if job["tensors"] is None else set(job["tensors"])
    tensors = RUNTIMES[job["runtime"]].tensors
    if tensors is None:
        raise UnavailableError(f"{job['runtime']} does not show what it computes on the way")
    found: dict[str, dict[str, Any]] = {}
    for watched in tensors(path, artifact, job["device"], wanted, max(1, PART // (max(1, job["mean_bytes"]) * batch))):
        elements: dict[str, int] = {}
        for name, values in in_batches(_sketching(watched, batch, layouts, elements), inputs, batch).items():
            texts = [to_text(part) for part in np.split(values, values.shape[1] // BUCKETS, axis=1)]
            found[name] = {"elements": elements[name], "sketches": dict(zip(layouts, texts, strict=False))}
    return {"tensors": found}


def _sketching(
    watched: Watched, batch: int, layouts: Sequence[str], elements: dict[str, int]
) -> Callable[[Arrays], dict[str, Array]]:
    """`watched`, of whose tensors only the sketches stay, shape (batch, 64 for each layout), and the `elements`.

    A tensor with a single axis behind the batch lies in one way only, and has the first of the layouts.
    """

    def run_once(inputs: Arrays) -> dict[str, Array]:
        sketches = {}
        for name, array in watched(inputs):
            if array.dtype.kind == "f" and array.shape[:1] == (batch,):
                elements[name] = int(np.prod(array.shape[1:], dtype=np.int64))
                with np.errstate(all="ignore"):  # a broken file may well compute infinities
                    several = layouts if array.ndim > 2 else layouts[:1]
                    sketches[name] = np.concatenate([sketch(array, layout) for layout in several], axis=1)
        return sketches

    return run_once


if __name__ == "__main__":
    main(run)
