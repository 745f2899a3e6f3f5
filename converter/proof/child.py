"""Runs one artifact in one runtime: `python -m converter.proof.child`, with a job on standard input.

A runtime may crash on a damaged file or never release memory; in a separate process this affects no other run. Standard
output is one JSON document (facts and latency, or the error); the outputs are written to an .npz file.
`converter.proof.isolate` starts it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import numpy as np

from converter.bundle.golden import read_inputs
from converter.core import machine
from converter.core.data import Array, Arrays, Artifact, TensorSpec, first_samples
from converter.core.disk import FULL, output_error
from converter.core.ending import end_with_parent
from converter.core.errors import CnnExportError, InputError
from converter.core.foreign import Json
from converter.core.jsonable import dumps
from converter.core.turn import Turn
from converter.proof.protocol import RunAnswer, run_job, samples_at
from converter.runtimes import ON_GPU, RUNNERS
from converter.runtimes.shared.onnx_records import require_own_weights

MAX_BATCH = 2 << 30  # bytes of inputs
HALF = "float16"
INDEX = 8  # bytes per sample in an array of indices
_TIMED_RUNS, _TIMED_SECONDS = 5, 0.1


def main(work: Callable[[Json], object]) -> None:
    """Read the job, call `work` with it, write the answer. The exit status is 0 unless the process itself fails.

    The name of a runtime on the command line makes the child import its library before it reads the job.
    """
    end_with_parent()
    answer = sys.stdout
    sys.stdout = sys.stderr  # text that a library prints must not become part of the answer
    prepare(sys.argv[1:])
    if sys.argv[1:]:
        answer.write("\n")  # the parent sees that this child is ready; it means nothing in JSON
        answer.flush()
    answer.write(answered(work, sys.stdin.buffer.read()))
    answer.flush()


def prepare(runtimes: Sequence[str]) -> None:
    """Import the libraries of `runtimes`."""
    machine.own_process()
    for name in filter(None, runtimes):
        with contextlib.suppress(ImportError):  # `prepare` of the runtime reports it
            (RUNNERS[name].warm or functools.partial(RUNNERS[name].unavailable, "cpu"))()


def answered(work: Callable[[Json], object], job: bytes) -> str:
    """What `work` returns for `job`, both as JSON; an error of ours, or a full disk, as its class and message."""
    try:
        result = work(json.loads(job))
    except CnnExportError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        found = output_error(error, codes=FULL)
        if found is None:
            raise
        result = {"error": type(found).__name__, "message": str(found)}
    return dumps(result)


def run(raw: Json) -> RunAnswer:
    """Do the `RunJob` in `raw`: run its subject at every batch size that it supports, and write the outputs.

    All batch sizes are run in one session, the largest first, and so are inputs of another size; those are run in a
    fresh session too. The latency is measured last, while no other child works.
    """
    job = run_job(raw)
    artifact, path, turn = job.subject.artifact, job.subject.path, Turn(job.turn)
    given = read_inputs(job.subject.golden, job.subject.interface)
    inputs, *others = [{spec.name: as_declared(each[spec.name], spec) for spec in artifact.inputs} for each in given]
    fixed = artifact.inputs[0].shape[0]
    if fixed and fixed * sum(max(INDEX, array[0].nbytes) for array in inputs.values()) > MAX_BATCH:
        raise InputError(f"{path}: a batch of {fixed:,} samples takes more than {MAX_BATCH >> 30} GB")
    if artifact.format == "onnx":
        require_own_weights(path)
    count = len(next(iter(inputs.values())))
    batches = [fixed] if fixed else list(dict.fromkeys(job.batches))
    results: dict[str, Array] = {}
    types = {spec.name: spec.dtype for spec in job.subject.interface.outputs}

    def keep(key: str, outputs: Arrays) -> None:
        results.update(
            {f"{key}/{quote(name, safe='')}": as_keras(outputs[name], name, artifact, types) for name in outputs}
        )

    def at(batch: int) -> None:
        some = first_samples(inputs, count if fixed else samples_at(batch, count))
        keep(str(batch), in_batches(clocked, some, batch))

    with turn.working(heavy=True, patience=job.patience / 2):
        prepared = RUNNERS[job.subject.runtime].prepare(path, artifact, job.subject.device)
        clocked = _Clocked(prepared.run)
        for batch in batches[:0:-1] or batches:
            at(batch)
        for other in others:
            size = fixed or len(next(iter(other.values())))
            keep("resized", in_batches(prepared.run, other, size))
            fresh = RUNNERS[job.subject.runtime].prepare(path, artifact, job.subject.device)
            keep("fresh", in_batches(fresh.run, other, size))
            del fresh
    one = first_samples(inputs, fixed or 1)
    if fixed and count < fixed:
        one = {name: np.resize(array, (fixed, *array.shape[1:])) for name, array in one.items()}
    with turn.alone(job.patience):
        clocked.taken.clear()
        if len(batches) > 1:  # the smallest last: its runs need no warming up, and are the first ones of latency
            at(batches[0])
        if batches[0] != len(next(iter(one.values()))):
            clocked.taken.clear()
        latency = clocked.latency(one, first=job.subject.device in ON_GPU)
        np.savez(job.outputs, allow_pickle=False, **results)
    return RunAnswer(tuple(batches), latency, dict(prepared.facts))


def as_declared(array: Array, spec: TensorSpec) -> Array:
    """A channels-last array in the layout that the artifact declares, and in float16 if it declares that."""
    array = array.astype(np.float16) if spec.dtype == HALF and array.dtype == np.float32 else array
    if spec.layout == "nchw" and array.ndim == 4:
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return array


def as_keras(array: Array, name: str, artifact: Artifact, types: Mapping[str, str]) -> Array:
    """An output of an artifact in the layout of Keras, and in Keras's type of `types` where it is declared float16."""
    layout, dtype = next(((spec.layout, spec.dtype) for spec in artifact.outputs if spec.name == name), ("", ""))
    array = array.astype(types[name]) if dtype == HALF and array.dtype == np.float16 and name in types else array
    return array.transpose(0, 2, 3, 1) if layout == "nchw" and array.ndim == 4 else array


def in_batches(run_once: Callable[[Arrays], dict[str, Array]], inputs: Arrays, batch: int) -> dict[str, Array]:
    """Run all samples in batches of `batch`; the last batch is filled with repeated samples, which are cut off again.

    An output whose first axis is not the batch is returned as it is, behind a new axis, so that its shape is wrong.
    """
    count = len(next(iter(inputs.values())))
    pieces: dict[str, list[Array]] = {}
    wrong: dict[str, Array] = {}
    for start in range(0, count, batch):
        index = np.arange(start, start + batch) % count
        outputs = run_once({name: np.ascontiguousarray(array[index]) for name, array in inputs.items()})
        for name, array in outputs.items():
            if array.ndim < 1 or len(array) != batch:
                wrong[name] = np.array(array)[None]
            pieces.setdefault(name, []).append(np.array(array))
    right = {name: arrays for name, arrays in pieces.items() if name not in wrong}
    return {**{name: np.concatenate(arrays)[:count] for name, arrays in right.items()}, **wrong}


class _Clocked:
    """Calls `run_once` and keeps how long each call took, in seconds."""

    def __init__(self, run_once: Callable[[Arrays], dict[str, Array]]) -> None:
        self.run_once = run_once
        self.taken: list[float] = []

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        started = time.perf_counter()
        outputs = self.run_once(inputs)
        self.taken.append(time.perf_counter() - started)
        return outputs

    def latency(self, inputs: Arrays, first: bool) -> float:
        """The median of the calls so far and of further ones, until there are five or a tenth of a second has passed.

        The first of several calls does not count: the runtime plans anew for another size. Nor does a single one if it
        is `first`, on a GPU, where a runtime tries its kernels out in the first call at each size.
        """
        if len(self.taken) > 1 or first:
            del self.taken[:1]
        while not self.taken or (len(self.taken) < _TIMED_RUNS and sum(self.taken) < _TIMED_SECONDS):
            self(inputs)
        return statistics.median(self.taken)


if __name__ == "__main__":
    main(run)
