"""What a layout consists of: the proven export it is made of, its options, and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.bundle.proven import Proven
from converter.core.data import Artifact, TensorSpec
from converter.core.errors import UsageError

Files = Mapping[str, Path | str]
"""By POSIX path in the package: a proven file, which is linked, or the text of a file that the server expects"""
FORMATS = ("onnx", "tflite", "saved-model")


@dataclass(frozen=True)
class PackageOptions:
    """Options of a package.

    `name` is that of the model in the server, `version` its version directory. `form` and `precision` choose the
    artifact where a server takes one. `max_batch` is the largest batch of a model with a free batch axis; `base_path`
    is where the server will find the package.
    """

    name: str = ""
    version: int = 1
    form: str | None = None
    precision: str = "float32"
    max_batch: int = 8
    base_path: str = "/models"


def served(proven: Proven, options: PackageOptions, taken: tuple[str, ...]) -> Artifact:
    """The artifact to serve: the first of the formats `taken` that the export has, or the one that was asked for.

    Raises UsageError if the server does not take that format, or the export has no such artifact.
    """
    if options.form is not None and options.form not in taken:
        raise UsageError(f"--format {options.form}: this server takes {' or '.join(taken)}")
    wanted = taken if options.form is None else (options.form,)
    able = [each for each in proven.manifest.artifacts if each.precision == options.precision]
    for form in wanted:
        for artifact in able:
            if artifact.format == form:
                return artifact
    there = ", ".join(f"{each.format} {each.precision}" for each in proven.manifest.artifacts)
    raise UsageError(
        f"{proven.directory}: has no artifact in {' or '.join(wanted)} {options.precision}, only {there}\n"
        f"export it with --format {wanted[0]}"
    )


def files_of(proven: Proven, artifact: Artifact, place: str) -> dict[str, Path | str]:
    """The files of `artifact` with `place` instead of its own path, and its external data beside it.

    An ONNX file names its external data itself, so that this keeps its name.
    """
    found: dict[str, Path | str] = {}
    for name in proven.manifest.files:
        path = proven.directory / name
        if name == artifact.path:
            found[place] = path
        elif name.startswith(f"{artifact.path}/"):
            found[place + name[len(artifact.path) :]] = path
        elif name == f"{artifact.path}.data":
            found[f"{place.rpartition('/')[0]}/{Path(name).name}"] = path
    return found


def model_name(proven: Proven, options: PackageOptions) -> str:
    """The name of the model in the server: letters, digits, ".", "_" and "-". Raises UsageError for another name."""
    if options.name:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", options.name):
            raise UsageError(f"--name {options.name}: expected letters, digits, '.', '_' and '-'")
        return options.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", proven.manifest.model).strip(".-_")[:128] or "model"


def without_batch(spec: TensorSpec) -> TensorSpec:
    """`spec` without its batch axis."""
    return replace(spec, shape=spec.shape[1:])


def labelled_output(proven: Proven, artifact: Artifact) -> str | None:
    """The only output with one value for each label, by name; None if there is none or more than one."""
    labels = len(proven.manifest.labels)
    found = [each.name for each in artifact.outputs if labels and len(each.shape) == 2 and each.shape[-1] == labels]
    return found[0] if len(found) == 1 else None
