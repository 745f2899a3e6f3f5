"""Which artifact is to classify, in which runtime, and what it says of its images and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter.bundle.directory import locate
from converter.bundle.manifest import MANIFEST, check_hashes, interface_from_json, read_manifest
from converter.core.data import Artifact, Interface, TensorSpec
from converter.core.errors import InputError, UnavailableError, UsageError
from converter.data.about import INTERFACE, About, from_entries
from converter.data.labels import read_labels, require_count
from converter.data.preprocessing import Preprocessing, Resize, given
from converter.inspection.describe import READERS
from converter.inspection.graph import Value
from converter.inspection.metadata import entries_of, format_of
from converter.proof.plan import first_runtimes
from converter.runtimes import RUNTIMES

IMAGE_CHANNELS = (1, 3)
INSIDE = "inside"
"""Key of a preprocessing that is a part of the model, which takes 8-bit images"""


@dataclass(frozen=True)
class Wanted:
    """What the user chose: `runtime` "" is the first that can run; the others replace what the artifact says."""

    runtime: str = ""
    device: str = "cpu"
    preprocessing: str | None = None
    labels: str | None = None
    output: str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Subject:
    """An artifact with its file, its runtime, and what belongs to it. `size` (height, width) is None for images of any.

    `output` is the one with the classes, `classes` their number.
    """

    path: Path
    artifact: Artifact
    runtime: str
    device: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    output: TensorSpec
    size: tuple[int, int] | None

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.output.shape[-1] or 0)

    @property
    def title(self) -> str:
        """The file and the runtime, for messages and tables."""
        return f"{self.artifact.path} in {self.runtime}"

    def label(self, index: int) -> str:
        """The label of a class, or its number."""
        return self.labels[index] if self.labels else str(index)


def subjects(path: Path, wanted: Wanted) -> tuple[list[Subject], tuple[str, ...]]:
    """The artifacts of the export `path`, or the artifact `path`, that can run here; and why others cannot.

    Raises InputError where there is no artifact or it is damaged, UnavailableError where no runtime can run any,
    UsageError where the preprocessing is not known, or what the user gave does not fit.
    """
    if wanted.runtime and wanted.runtime not in RUNTIMES:
        raise UsageError(f"--runtime {wanted.runtime}: no such runtime\nchoose from {', '.join(RUNTIMES)}")
    found, about = _exported(path) if _is_exported(path) else _bare(path)
    reasons: list[str] = []
    result: list[Subject] = []
    for file, artifact in found:
        name, reason = _runtime(artifact, wanted, about)
        if reason:
            reasons.append(f"{artifact.path}: {reason}")
        else:
            result.append(_subject(file, artifact, name, about, wanted))
    if not result:
        raise UnavailableError(f"{path}: no artifact can run here\n{'; '.join(reasons[:3])}")
    return result, tuple(reasons)


def _runtime(artifact: Artifact, wanted: Wanted, about: About) -> tuple[str, str]:
    """The runtime for `artifact`, or why there is none."""
    taken = ("float32", "float16", *(["uint8"] if INSIDE in about.preprocessing else []))
    other = next((each.dtype for each in artifact.inputs if each.dtype not in taken), None)
    if other is not None:
        return "", f"its input is {other}, not floating point"
    names = [wanted.runtime] if wanted.runtime else list(first_runtimes(artifact.format))
    reason = f"no runtime reads {artifact.format}"
    for name in names:
        if artifact.format not in RUNTIMES[name].reads:
            reason = f"{name} does not read {artifact.format}"
            continue
        problem = RUNTIMES[name].unavailable(wanted.device)
        if not problem:
            return name, ""
        reason = f"{name}: {problem}"
    return "", reason


def _is_exported(path: Path) -> bool:
    directory, _ = locate(path) if path.exists() and not path.is_file() else (path.parent, path.name)
    return (directory / MANIFEST).is_file()


def _exported(path: Path) -> tuple[list[tuple[Path, Artifact]], About]:
    """The artifacts that a manifest lists, their hashes checked."""
    directory, only = locate(path)
    manifest = read_manifest(directory)
    found = [(directory / each.path, each) for each in manifest.artifacts if only in (None, each.path)]
    if not found:
        there = ", ".join(each.path for each in manifest.artifacts) or "none"
        raise InputError(f"{path}: not an artifact of {directory / MANIFEST}, which lists {there}")
    check_hashes(directory, manifest)
    return found, About(manifest.preprocessing, manifest.labels)


def _bare(path: Path) -> tuple[list[tuple[Path, Artifact]], About]:
    """An artifact without a manifest: what it says of itself, else what its graph says."""
    form = format_of(path)
    about, raw = from_entries(entries_of(path), str(path))
    interface = interface_from_json(raw, f"{path}: {INTERFACE}") if raw is not None else _interface(path, form)
    artifact = Artifact(form, path.name, "float32", interface.inputs, interface.outputs, {}, 0, 0.0)
    return [(path, artifact)], about


def _interface(path: Path, form: str) -> Interface:
    graph = READERS[form](path)
    return Interface(tuple(map(_spec, graph.inputs)), tuple(map(_spec, graph.outputs)))


def _spec(value: Value) -> TensorSpec:
    shape = (None, *(value.shape or (None,))[1:])
    layout = ""
    if len(shape) == 4:
        layout = "nhwc" if shape[3] in IMAGE_CHANNELS else "nchw" if shape[1] in IMAGE_CHANNELS else ""
    return TensorSpec(value.name.rpartition("#")[0] or value.name, shape, value.dtype, layout)


def _subject(file: Path, artifact: Artifact, runtime: str, about: About, wanted: Wanted) -> Subject:
    where = str(file)
    if len(artifact.inputs) != 1:
        raise UsageError(f"{where}: has {len(artifact.inputs)} inputs, not one image\nuse the functions of the runtime")
    spec = artifact.inputs[0]
    shape = (spec.shape[0], *spec.shape[2:], spec.shape[1]) if spec.layout == "nchw" else spec.shape
    if len(shape) != 4 or shape[3] not in IMAGE_CHANNELS:
        raise UsageError(f"{where}: input {spec.name} has shape {list(spec.shape)}, not that of an image")
    own = about.require(where)
    if wanted.preprocessing is not None:
        kept = own.resize if own is not None else Resize()
        facts = {"channels": "gray" if shape[3] == 1 else "rgb"}
        own = given(wanted.preprocessing, facts, kept)
    if own is None:
        raise UsageError(
            f"{where}: it is not known how an image becomes its input\ngive --preprocessing caffe|tf|torch|plain|unit"
        )
    if (own.channels == "gray") != (shape[3] == 1):
        raise UsageError(f"{where}: its preprocessing is for {own.channels} images, its input has {shape[3]} channels")
    output = _output(artifact, wanted.output, where)
    labels = read_labels(wanted.labels) if wanted.labels is not None else about.labels
    require_count(labels, int(output.shape[-1] or 0), f"--labels {wanted.labels}" if wanted.labels else where)
    size = None if None in shape[1:3] else (int(shape[1] or 0), int(shape[2] or 0))
    if size is None:
        size = wanted.size
    elif wanted.size is not None and wanted.size != size:
        raise UsageError(
            f"--size {wanted.size[0]}x{wanted.size[1]}: the input of {where} is {size[0]}x{size[1]}\nleave it out"
        )
    return Subject(file, artifact, runtime, wanted.device, own, labels, output, size)


def _output(artifact: Artifact, name: str | None, where: str) -> TensorSpec:
    """The output with the classes: the one that was asked for, else the first."""
    fitting = [each for each in artifact.outputs if len(each.shape) == 2 and (each.shape[1] or 0) > 1]
    if name is not None:
        fitting = [each for each in fitting if each.name == name]
    if not fitting:
        there = ", ".join(f"{each.name} {list(each.shape)}" for each in artifact.outputs)
        raise UsageError(f"{where}: has no output {name or 'with a number for each class'}, only {there}")
    return fitting[0]
