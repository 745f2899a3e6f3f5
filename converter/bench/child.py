"""One file in one runtime, measured in a process of its own: `python -m converter.bench.child`.

Each line on standard input is a request, each line on standard output its answer, both JSON. The process restricts
itself to the processors that it is told before it imports the runtime, which then starts as many threads.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from converter.bench.subjects import KERAS
from converter.bundle.manifest import artifact_from_json
from converter.core.data import Array, Arrays, Artifact, Prepared
from converter.core.ending import end_with_parent
from converter.core.errors import CnnExportError, InputError
from converter.core.foreign import Facts, Json
from converter.core.jsonable import Fields, plain
from converter.proof.child import as_declared
from converter.runtimes import RUNTIMES
from converter.runtimes.shared.onnx_records import require_own_weights

MOST = 10_000  # inferences in one request


@dataclass
class _Loaded:
    run: Callable[[Arrays], dict[str, Array]]
    inputs: dict[str, Array]


def load(fields: Fields) -> tuple[_Loaded, Facts]:
    """Load the file of a request and run it once; returns it with the seconds of both, and the memory before."""
    processors = fields.get("processors", list)
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    artifact = artifact_from_json(fields.get("artifact", dict))
    prepare = _warmed(artifact, fields.get("path", str), fields.get("runtime", str), fields.get("device", str))
    with np.load(fields.get("inputs", str), allow_pickle=False) as given:
        arrays = {unquote(name): given[name] for name in given.files}
    inputs = {spec.name: as_declared(arrays[spec.name], spec) for spec in artifact.inputs}
    before = peak()
    started = time.perf_counter()
    prepared = prepare()
    loaded = time.perf_counter() - started
    fixed = artifact.inputs[0].shape[0] or 1
    one = _batch(inputs, fixed)
    started = time.perf_counter()
    prepared.run(one)
    first = time.perf_counter() - started
    answer = {"load": loaded, "first": first, "before": before, "facts": plain(dict(prepared.facts))}
    return _Loaded(prepared.run, inputs), answer


def _warmed(artifact: Artifact, path: str, name: str, device: str) -> Callable[[], Prepared]:
    """What loads the file, its library imported already."""
    if name == KERAS:
        return partial(_keras, path)
    runtime = RUNTIMES[name]
    reason = runtime.unavailable("cpu")  # for a GPU, loading finds out
    if reason:
        raise InputError(reason)
    if runtime.warm is not None:
        runtime.warm()
    if artifact.format == "onnx":
        require_own_weights(Path(path))
    return partial(runtime.prepare, Path(path), artifact, device)


def _keras(source: str) -> Prepared:
    """A model in Keras itself, called for inference in one function of TensorFlow for each batch size."""
    from converter.core.data import SourceOptions
    from converter.sources import opened
    from converter.tracing.prediction import Prediction
    from converter.tracing.signature import describe

    model = opened(source, SourceOptions(), ()).load().model
    return Prepared(Prediction(model, describe(model)), {})


def run(loaded: _Loaded, fields: Fields) -> Facts:
    """Run a batch for the seconds of a request, at least once; the first run at another size does not count."""
    given = _batch(loaded.inputs, fields.get("batch", int))
    if fields.get("fresh", bool):
        loaded.run(given)
    ends = time.perf_counter() + float(fields.get("seconds", (int, float)))
    times: list[float] = []
    gc.disable()
    try:
        while not times or (time.perf_counter() < ends and len(times) < MOST):
            started = time.perf_counter()
            loaded.run(given)
            times.append(time.perf_counter() - started)
    finally:
        gc.enable()
    return {"times": times}


def peak() -> int:
    """The largest memory that this process had so far, in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _batch(inputs: Arrays, count: int) -> dict[str, Array]:
    return {name: np.ascontiguousarray(array[np.arange(count) % len(array)]) for name, array in inputs.items()}


def main() -> None:
    """Answer requests until standard input ends."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not become part of an answer
    loaded: _Loaded | None = None
    for line in sys.stdin:
        raw: Json = json.loads(line)
        fields = Fields(raw, "request")
        answer: Facts
        try:
            if fields.get("do", str) == "load":
                loaded, answer = load(fields)
            elif fields.get("do", str) == "run" and loaded is not None:
                answer = run(loaded, fields)
            else:
                answer = {}
        except CnnExportError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        answers.write(json.dumps({**answer, "peak": peak()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
