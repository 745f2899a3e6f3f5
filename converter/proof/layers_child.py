"""Sketches the intermediate tensors of an artifact: `python -m converter.proof.layers_child`, job on standard input.

The runtime gives access to the tensors of a file (`Runtime.tensors`). Each tensor is sketched as soon as it is
available, so that memory holds no more of them than the runtime keeps. It runs in its own process for the same reason
as `converter.proof.child`, with the same protocol. `converter.proof.diagnosis` starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converter.bundle.golden import read_inputs
from converter.bundle.manifest import GOLDEN
from converter.core.data import Array, Arrays, Watched
from converter.core.errors import UnavailableError
from converter.core.foreign import Json
from converter.core.sketch import BUCKETS, sketch, to_text
from converter.proof.child import as_declared, in_batches, main
from converter.proof.protocol import LayersAnswer, TensorSketches, layers_job
from converter.runtimes import RUNTIMES

PART = 256 << 20
"""Bytes of tensors that a runtime may keep at a time, estimated from the mean size in the job."""


def run(raw: Json) -> LayersAnswer:
    """Do the `LayersJob` in `raw`."""
    job = layers_job(raw)
    artifact, path, count = job.subject.artifact, job.subject.path, job.samples
    given = read_inputs(job.subject.directory / GOLDEN, job.subject.interface)[0]
    inputs = {spec.name: as_declared(given[spec.name][:count], spec) for spec in artifact.inputs}
    batch = artifact.inputs[0].shape[0] or count
    wanted = None if job.tensors is None else set(job.tensors)
    tensors = RUNTIMES[job.subject.runtime].tensors
    if tensors is None:
        raise UnavailableError(f"{job.subject.runtime}: gives no access to intermediate tensors")
    at_once = max(1, PART // (max(1, job.mean_bytes) * batch))
    found: dict[str, TensorSketches] = {}
    for watched in tensors(path, artifact, job.subject.device, wanted, at_once):
        elements: dict[str, int] = {}
        for name, values in in_batches(_sketching(watched, batch, job.layouts, elements), inputs, batch).items():
            texts = [to_text(part) for part in np.split(values, values.shape[1] // BUCKETS, axis=1)]
            found[name] = TensorSketches(elements[name], dict(zip(job.layouts, texts, strict=False)))
    return LayersAnswer(found)


def _sketching(
    watched: Watched, batch: int, layouts: Sequence[str], elements: dict[str, int]
) -> Callable[[Arrays], dict[str, Array]]:
    """`watched`, with every tensor replaced by its sketches, shape (batch, 64 for each layout). Fills `elements`.

    A tensor with a single axis after the batch has only one layout and is sketched in the first one.
    """

    def run_once(inputs: Arrays) -> dict[str, Array]:
        sketches = {}
        for name, array in watched(inputs):
            if array.dtype.kind == "f" and array.shape[:1] == (batch,):
                elements[name] = int(np.prod(array.shape[1:], dtype=np.int64))
                with np.errstate(all="ignore"):  # a broken file may compute infinities
                    several = layouts if array.ndim > 2 else layouts[:1]
                    sketches[name] = np.concatenate([sketch(array, layout) for layout in several], axis=1)
        return sketches

    return run_once


if __name__ == "__main__":
    main(run)
