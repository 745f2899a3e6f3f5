"""The messages between the proof and its child processes: a job to the child, an answer from it.

Both are typed and sent as JSON. There are two kinds of child: `converter.proof.child` runs an artifact,
`converter.proof.layers_child` sketches its intermediate tensors. `converter.proof.isolate` starts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converter.bundle.manifest import GOLDEN, artifact_from_json, interface_from_json
from converter.core.data import Arrays, Artifact, Interface
from converter.core.effort import MOST
from converter.core.foreign import Json
from converter.core.jsonable import Fields


@dataclass(frozen=True)
class Subject:
    """One artifact of `directory` in one runtime on one device.

    `interface` is that of the Keras model, as in golden.npz. `arrays` is the file with the golden inputs, golden.npz of
    the directory if it is None.
    """

    directory: Path
    artifact: Artifact
    interface: Interface
    runtime: str
    device: str
    arrays: Path | None = None

    @property
    def golden(self) -> Path:
        """The file with the golden inputs."""
        return self.arrays or self.directory / GOLDEN

    @property
    def path(self) -> Path:
        """The file or folder of the artifact."""
        return self.directory / self.artifact.path


@dataclass(frozen=True)
class RunJob:
    """Run the subject on the golden inputs; write its outputs, by batch size and name, to the .npz file `outputs`.

    `batches` are the batch sizes to run, in this order, unless the artifact has a fixed one. `turn` is the directory of
    the turns of several children, and `patience` the seconds to wait for one in which to measure the latency.
    """

    subject: Subject
    outputs: Path
    batches: tuple[int, ...]
    turn: Path | None = None
    patience: float = 0.0


def batches_of(inputs: Arrays, mixes: bool = False) -> tuple[int, ...]:
    """The batch sizes at which `inputs`, shape (samples, ...) by name, are run: one, a few, and all of them."""
    count = len(next(iter(inputs.values())))
    return (count,) if mixes else (1, 3, count)


def samples_at(batch: int, count: int) -> int:
    """How many of `count` samples are run at a batch size: at a small one, only enough to see that it works.

    Fewer than `MOST` samples mean that an inference takes long.
    """
    return count if batch >= count else min(count, max(batch, 2 if count >= MOST else 1))


@dataclass(frozen=True)
class RunAnswer:
    """The batch sizes that were run, the seconds for one call (median), and facts from the runtime."""

    batches: tuple[int, ...]
    latency_seconds: float
    facts: Mapping[str, Json]


@dataclass(frozen=True)
class LayersJob:
    """Sketch `tensors` (None: all) of the subject for the first `samples` golden inputs.

    `layouts` are the layouts to sketch in; `mean_bytes` is the approximate size of one tensor for one sample.
    """

    subject: Subject
    tensors: tuple[str, ...] | None
    layouts: tuple[str, ...]
    mean_bytes: int
    samples: int


@dataclass(frozen=True)
class TensorSketches:
    """The number of elements of one sample of a tensor, and its sketches as text (`core.sketch.to_text`) by layout."""

    elements: int
    sketches: Mapping[str, str]


@dataclass(frozen=True)
class LayersAnswer:
    """The intermediate tensors of the subject by name.

    Contains only floating-point tensors whose first axis is the batch.
    """

    tensors: Mapping[str, TensorSketches]


def run_job(raw: Json) -> RunJob:
    """The job in the JSON value `raw`. Like the other readers here, it raises InputError for a wrong type."""
    fields = Fields(raw, "job")
    turn = Path(fields.get("turn", str)) if fields.value.get("turn") else None
    batches, patience = tuple(fields.get("batches", list)), float(fields.get("patience", (int, float)))
    return RunJob(_subject(fields), Path(fields.get("outputs", str)), batches, turn, patience)


def run_answer(raw: Json) -> RunAnswer:
    """The answer in the JSON value `raw`."""
    fields = Fields(raw, "answer")
    latency = float(fields.get("latency_seconds", (int, float)))
    return RunAnswer(tuple(fields.get("batches", list)), latency, fields.get("facts", dict))


def layers_job(raw: Json) -> LayersJob:
    """The job in the JSON value `raw`."""
    fields = Fields(raw, "job")
    tensors = None if fields.value.get("tensors") is None else fields.strings("tensors")
    return LayersJob(
        _subject(fields), tensors, fields.strings("layouts"), fields.get("mean_bytes", int), fields.get("samples", int)
    )


def layers_answer(raw: Json) -> LayersAnswer:
    """The answer in the JSON value `raw`."""
    found = Fields(raw, "answer").fields("tensors")
    return LayersAnswer(
        {name: TensorSketches(each.get("elements", int), each.get("sketches", dict)) for name, each in found.items()}
    )


def _subject(fields: Fields) -> Subject:
    raw = Fields(fields.get("subject", dict), "job: subject")
    return Subject(
        directory=Path(raw.get("directory", str)),
        artifact=artifact_from_json(raw.get("artifact", dict)),
        interface=interface_from_json(raw.get("interface", dict)),
        runtime=raw.get("runtime", str),
        device=raw.get("device", str),
        arrays=Path(raw.get("arrays", str)) if raw.value.get("arrays") else None,
    )
