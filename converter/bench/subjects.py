"""What is measured: the artifacts of directories, and files of any origin, each in every runtime that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converter.bench.describe import describe
from converter.bundle.directory import locate
from converter.bundle.golden import read_inputs
from converter.bundle.manifest import GOLDEN, MANIFEST, check_hashes, read_manifest
from converter.core.data import Array, Arrays, Artifact, TensorSpec
from converter.core.errors import InputError, UnavailableError, UsageError
from converter.core.samples import generate
from converter.core.text import place_of
from converter.proof.plan import check_runtimes, on_gpu
from converter.runtimes import RUNTIMES

DEFAULT = ("onnxruntime", "litert", "tensorflow", "openvino")
"""The runtimes that are measured if they are installed and none is asked for"""

KERAS = "keras"
"""As a runtime and as a format: the model in Keras itself"""

SUFFIXES = {".onnx": "onnx", ".tflite": "tflite"}


@dataclass(frozen=True)
class Case:
    """A file to measure: where it is, its artifact, the inputs that it is run on, and whether it is a peer's."""

    path: Path
    artifact: Artifact
    inputs: Arrays
    peer: bool = False

    @property
    def foreign(self) -> bool:
        """Whether no manifest describes it: its precision is not known, nor need its signature have its names."""
        return self.artifact.options.get("signature") == "none"

    @property
    def name(self) -> str:
        """The file's name in a report, with its folder where several have the same."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Subject:
    """A file in a runtime on a device; `twin` is measured twice, to see what the machine can tell apart."""

    case: Case
    runtime: str
    twin: bool = False
    device: str = "cpu"

    @property
    def place(self) -> str:
        """The runtime and the device, as `place_of` writes them."""
        return place_of(self.runtime, self.device)


def cases(paths: Sequence[Path], against: Sequence[Path], seed: int) -> list[Case]:
    """The files of `paths`, directories or files, and those of `against`, in this order.

    Raises InputError for what is neither an export, nor in one, nor an ONNX or TFLite file.
    """
    found = [case for path in paths for case in _of(path, seed, peer=False)]
    return found + [case for path in against for case in _of(path, seed, peer=True)]


def keras_subject(source: str, found: Sequence[Case]) -> Subject:
    """The model `source` in Keras, on the inputs of the first case of an export. Raises UsageError if there is none."""
    like = next((case for case in found if not case.peer and not case.foreign), None)
    if like is None:
        raise UsageError("--keras: needs an export among the arguments, whose inputs the model takes")
    artifact = replace(like.artifact, format=KERAS, path=source, precision="float32", size=0, operators={})
    return Subject(Case(Path(source), artifact, like.inputs), KERAS)


def subjects(found: Sequence[Case], runtimes: Sequence[str], device: str = "cpu") -> list[Subject]:
    """Every case in every runtime of `runtimes`, or of `DEFAULT`, that reads it and is installed.

    With `device` "cuda" each file is measured on the GPU as well, in the runtimes that can, with TF32 off and on.
    Raises UsageError for an unknown runtime or device and for a runtime that reads none of the files, UnavailableError
    if one that was asked for is not available or none is.
    """
    check_runtimes((), device)
    for name in runtimes:
        if name not in RUNTIMES:
            raise UsageError(f"--runtime {name}: no such runtime\nchoose from {', '.join(RUNTIMES)}")
        reason = RUNTIMES[name].unavailable("cpu")
        if reason:
            raise UnavailableError(f"{name}: {reason}")
        if not any(case.artifact.format in RUNTIMES[name].reads for case in found):
            raise UsageError(f"--runtime {name}: reads none of the files")
    able = runtimes or [name for name in DEFAULT if RUNTIMES[name].unavailable("cpu") is None]
    result = [
        Subject(case, name, device=where)
        for case in found
        for name in able
        if case.artifact.format in RUNTIMES[name].reads
        for where in _devices(case, name, device)
    ]
    if not result:
        raise UnavailableError("no runtime that reads the files is available\nsee: cnnexport runtimes")
    if device != "cpu" and all(each.device == "cpu" for each in result):
        raise UsageError(f"--device {device}: no file and runtime among these runs there; onnxruntime does, with ONNX")
    return result


def _devices(case: Case, name: str, device: str) -> tuple[str, ...]:
    able = on_gpu(case.artifact) if device == "cuda" else ()
    runtime = RUNTIMES[name]
    return ("cpu", *(each for each in able if each in runtime.devices and runtime.unavailable(each) is None))


def _of(path: Path, seed: int, *, peer: bool) -> list[Case]:
    if path.is_dir() or (path.is_file() and (path.parent / MANIFEST).is_file()):
        directory, only = locate(path)
        if (directory / MANIFEST).is_file():
            return _of_export(directory, only, peer=peer)
        if not path.is_file():
            raise InputError(f"{path}: not an export, it has no {MANIFEST}; give an export or an .onnx or .tflite file")
    if not path.is_file():
        raise InputError(f"{path}: no such file or directory")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected an export, or a file that ends in {' or '.join(SUFFIXES)}")
    artifact = describe(path, SUFFIXES[path.suffix])
    sizes = {spec.name: _sizes(spec) for spec in artifact.inputs if None in spec.shape[1:]}
    return [Case(path, artifact, generate(artifact.inputs, 8, seed, sizes=sizes), peer)]


def _of_export(directory: Path, only: str | None, *, peer: bool) -> list[Case]:
    manifest = read_manifest(directory)
    check_hashes(directory, manifest)
    inputs = read_inputs(directory / GOLDEN, manifest.interface)[0]
    chosen = [each for each in manifest.artifacts if only in (None, each.path)]
    if not chosen:
        there = ", ".join(each.path for each in manifest.artifacts)
        raise InputError(f"{directory / str(only)}: not an artifact of this export, which has {there}")
    return [Case(directory / each.path, each, _declared(inputs, each), peer) for each in chosen]


def _declared(inputs: Mapping[str, Array], artifact: Artifact) -> dict[str, Array]:
    return {spec.name: inputs[spec.name] for spec in artifact.inputs}


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    """224 for each dynamic axis of a foreign file but the last, which is 3."""
    last = len(spec.shape) - 2
    return tuple(size or (3 if axis == last else 224) for axis, size in enumerate(spec.shape[1:]))
