"""What an ONNX file computes on the way, as sketches: `python -m converter.diagnosis_child`, a job on standard input.

A copy of the file gets the wanted tensors as additional outputs and runs in onnxruntime, a part of them at a time, so
that no more than that part is in memory. A process of its own for the reason that `converter.child` gives, and with
the same protocol. `converter.diagnosis` and `converter.activations` are the other end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.child import as_declared, in_batches, main
from converter.core import Array, Arrays, Artifact, Prepared, TensorSpec
from converter.golden import read_golden
from converter.manifest import artifact_from_json, spec_from_json
from converter.runtimes import RUNTIMES
from converter.runtimes.shared import more_outputs, onnx_tensors
from converter.sketch import AS_IT_IS, CHANNELS_FIRST, sketch, to_text

PART = 256 << 20
"""Bytes of tensors that one session may keep as outputs, by the mean size that the job gives."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Sketch the tensors named in job["tensors"] (None: every one) on the first job["samples"] golden inputs.

    job["mean_bytes"] is what one of them takes for one sample, about; directory, artifact, runtime, device, inputs,
    output_specs and golden are as in `converter.isolate.run_artifact`. The answer has, by name of those tensors that
    the file has and whose first axis is the batch, the number of "elements" of a sample and the sketch in each layout.
    """
    artifact = artifact_from_json(job["artifact"])
    path = Path(job["directory"], artifact.path)
    specs = [[spec_from_json(spec) for spec in job[key]] for key in ("inputs", "output_specs")]
    golden = read_golden(Path(job["golden"]), *specs)
    count = job["samples"]
    inputs = {spec.name: as_declared(golden.inputs[spec.name][:count], spec) for spec in artifact.inputs}
    batch = artifact.inputs[0].shape[0] or count
    own = [spec.name for spec in artifact.outputs]
    names = [name for name in onnx_tensors(path) if name not in own]
    if job["tensors"] is not None:
        wanted = set(job["tensors"])
        names = [name for name in names if name in wanted]
    step = max(1, PART // (max(1, job["mean_bytes"]) * batch))
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, max(1, len(names)), step):
        with _exposed(path, artifact, names[start : start + step], job["runtime"], job["device"]) as prepared:
            activations = in_batches(_floats(prepared.run, batch), inputs, batch)
        found |= {name: _described(array) for name, array in activations.items()}
    return {"tensors": found}


@contextmanager
def _exposed(path: Path, artifact: Artifact, names: list[str], runtime: str, device: str) -> Iterator[Prepared]:
    """A copy of the ONNX file `path`, with `names` as further outputs, loaded."""
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        copy = Path(scratch, path.name)
        shutil.copyfile(path, copy)
        sidecar = path.with_name(path.name + ".data")
        if sidecar.is_file():
            shutil.copyfile(sidecar, copy.with_name(sidecar.name))
        with copy.open("ab") as file:
            file.write(more_outputs(names))
        outputs = (*artifact.outputs, *(TensorSpec(name, ()) for name in names))
        yield RUNTIMES[runtime].prepare(copy, replace(artifact, outputs=outputs), device)


def _floats(run_once: Callable[[Arrays], dict[str, Array]], batch: int) -> Callable[[Arrays], dict[str, Array]]:
    """`run_once`, of whose outputs only those stay that are floating point and have a first axis of `batch`."""

    def run_some(inputs: Arrays) -> dict[str, Array]:
        outputs = run_once(inputs).items()
        return {name: array for name, array in outputs if array.dtype.kind == "f" and array.shape[:1] == (batch,)}

    return run_some


def _described(array: Array) -> dict[str, Any]:
    with np.errstate(all="ignore"):  # a broken file may well compute infinities
        layouts = {AS_IT_IS: to_text(sketch(array))}
        if array.ndim > 2:
            layouts[CHANNELS_FIRST] = to_text(sketch(array, CHANNELS_FIRST))
    return {"elements": int(np.prod(array.shape[1:], dtype=np.int64)), "sketches": layouts}


if __name__ == "__main__":
    main(run)
