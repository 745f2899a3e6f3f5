"""manifest.json: the description of an artifact directory, with the hashes of its files.

The manifest is written last; only with it is a directory an export. report.html is written after it, because it shows
the hashes; no check reads that file. "files" lists every file of the directory except the manifest and the two reports,
which later checks may replace. A manifest is untrusted when it is read: types are checked, and no path in it may leave
the directory.
"""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import cast

from converter.core.data import SCHEMA_VERSION, Activation, Artifact, Interface, RuleResult, TensorSpec
from converter.core.errors import InputError, OutputError
from converter.core.files import FileRecord, files_under, record_of
from converter.core.foreign import Json
from converter.core.jsonable import LARGEST, Fields, dumps, read_json

MANIFEST, GOLDEN, REPORT, PAGE, EVALUATION = (
    "manifest.json", "golden.npz", "report.json", "report.html", "evaluation.json",
)  # fmt: skip
BOM, ATTESTATION, SIGNATURE = "bom.json", "verdict.intoto.json", "model.sig"
"""What signing adds."""
MAX_BYTES = 16 << 20
EXPORT_AGAIN = "export the model again"
MAX_ENTRIES = {
    "artifacts": 64,
    "inputs": 4096,
    "outputs": 4096,
    "files": 10_000,
    "warnings": 10_000,
    "rewrites": 1_000_000,
}
LARGEST_AXIS = 2**31 - 1
PRECISIONS = ("float32", "float16", "int8", "int8-weights", "int8-dynamic")
LAYOUTS, ACTIVATIONS = ("nhwc", "nchw", ""), ("softmax", "sigmoid", "linear")


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    `inputs` and `outputs` are those of the Keras model; every artifact has its own. `raw` is the whole JSON object.
    """

    model: str
    source: Mapping[str, Json]
    artifacts: tuple[Artifact, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: Mapping[str, FileRecord]  # by POSIX path relative to the directory
    tolerance: Mapping[str, Json] = field(default_factory=dict)
    rewrites: tuple[RuleResult, ...] = ()
    warnings: tuple[str, ...] = ()
    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    environment: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    created: str = ""
    schema: int = SCHEMA_VERSION
    raw: Mapping[str, Json] = field(default_factory=dict)

    @property
    def interface(self) -> Interface:
        """The Keras model's inputs and outputs."""
        return Interface(self.inputs, self.outputs)


def records_of(directory: Path, artifacts: Sequence[Artifact]) -> dict[str, FileRecord]:
    """The records of the files of `artifacts` in `directory`, by name. Raises InputError for a link, and OSError."""
    beside = [directory / f"{each.path}.data" for each in artifacts]
    paths = [*(directory / each.path for each in artifacts), *(path for path in beside if path.exists())]
    names = [name for path in paths for name in files_under(path, directory)]
    return {name: record_of(directory / name) for name in names}


def files_of(manifest: Manifest) -> dict[str, FileRecord]:
    """The records in `manifest` of the files of its artifacts, by name: those of `records_of`."""
    places = {each.path for each in manifest.artifacts} | {f"{each.path}.data" for each in manifest.artifacts}
    return {name: record for name, record in manifest.files.items() if name.partition("/")[0] in places}


def write_manifest(
    directory: Path, manifest: Mapping[str, Json], known: Mapping[str, FileRecord] | None = None
) -> Manifest:
    """Write `directory`/manifest.json, durably, and return the Manifest that is read back.

    `known` are the records of files that have not changed since; the others are read.

    `manifest` has the fields of `Manifest` except files, created, schema and raw, which are set here; "files" lists
    every file found in `directory`. Dataclasses, tuples, paths and numpy values are converted to JSON. Raises
    OutputError if a file cannot be read or written or is a link, or if the manifest could not be read back.
    """
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        temporary = directory / f"{MANIFEST}.partial"
        names = sorted(set(files_under(directory, directory)) - {MANIFEST, REPORT, PAGE, EVALUATION, temporary.name})
        files = {name: (known or {}).get(name) or record_of(directory / name) for name in names}
        text = dumps({**manifest, "schema": SCHEMA_VERSION, "created": created, "files": files})
        parsed = _parse(json.loads(text), directory)
        with temporary.open("w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(directory / MANIFEST)
    except OSError as error:
        raise OutputError(f"{directory}: {error.strerror or error}") from error
    except (InputError, TypeError) as error:
        raise OutputError(f"{directory}: the manifest could not be read back: {error}") from error
    return parsed


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an artifact directory.

    Raises InputError if there is no directory or no manifest, or if the manifest is damaged, has a wrong type, was
    written by a newer cnnexport, or names a path outside of the directory.
    """
    path = directory / MANIFEST
    try:
        if not directory.is_dir():
            what = "not a directory" if directory.exists() else "no such directory"
            raise InputError(f"{directory}: {what}; give the directory that an export wrote")
        if not path.is_file():
            raise InputError(f"{directory}: not an export, it has no {MANIFEST}; run cnnexport MODEL first")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    return _parse(read_json(path, MAX_BYTES, f"a manifest of cnnexport; {EXPORT_AGAIN}"), directory)


def check_hashes(directory: Path, manifest: Manifest) -> bool:
    """Compare every listed file with its record. Returns whether golden.npz is intact.

    Raises InputError, naming the first file that is missing, truncated or changed, or that is not listed although it is
    inside an artifact which is a directory. A damaged golden.npz is returned, not raised: the comparison continues with
    its content, because an artifact that fails is the more important result.
    """
    try:
        for artifact in [each for each in manifest.artifacts if (directory / each.path).is_dir()]:
            for name in sorted(set(files_under(directory / artifact.path, directory)) - set(manifest.files)):
                raise InputError(f"{directory / name}: not listed in {MANIFEST}; remove it or export the model again")
        for name in [f"{each.path}.data" for each in manifest.artifacts]:
            if os.path.lexists(directory / name) and name not in manifest.files:
                raise InputError(f"{directory / name}: not listed in {MANIFEST}; remove it or export the model again")
        golden_intact = True
        for name, record in sorted(manifest.files.items()):
            problem = record.problem(directory / name)
            if problem and name == GOLDEN:
                golden_intact = False
            elif problem:
                raise InputError(f"{directory / name}: {problem}; export the model again")
    except OSError as error:
        raise InputError(f"{error.filename or directory}: {error.strerror or error}") from error
    return golden_intact


def unlisted(directory: Path, manifest: Manifest) -> list[str]:
    """The entries of `directory` that the manifest knows nothing of. Raises InputError if they cannot be listed."""
    known = {name.partition("/")[0] for name in known_files(manifest)}
    try:
        return sorted(each.name for each in directory.iterdir() if each.name not in known)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror or error}") from error


def known_files(manifest: Manifest) -> frozenset[str]:
    """Every file that this export may contain, as POSIX paths."""
    return frozenset({*manifest.files, MANIFEST, GOLDEN, REPORT, PAGE, EVALUATION, BOM, ATTESTATION, SIGNATURE})


def artifact_from_json(raw: Json, where: str = "artifact") -> Artifact:
    """The Artifact that `converter.core.jsonable.plain` converted to `raw`. Raises InputError for a wrong type."""
    return _artifact(Fields(raw, where))


def interface_from_json(raw: Json, where: str = "interface") -> Interface:
    """The Interface that `converter.core.jsonable.plain` converted to `raw`. Raises InputError for a wrong type."""
    fields = Fields(raw, where)
    inputs, outputs = (tuple(_spec(each) for each in fields.items(key)) for key in ("inputs", "outputs"))
    return Interface(inputs, outputs)


def _parse(raw: Json, directory: Path) -> Manifest:
    """The manifest from its JSON value, with every type and path checked."""
    top = Fields(raw, str(directory / MANIFEST))
    schema = top.get("schema", int)
    if schema > SCHEMA_VERSION:
        raise InputError(
            f"{top.where}: schema {schema} is newer than {SCHEMA_VERSION}, the newest known; upgrade cnnexport"
        )
    if schema < 1:
        raise InputError(f"{top.where}: schema {schema} does not exist; export the model again")
    for key, most in MAX_ENTRIES.items():
        if isinstance(found := top.value.get(key), (list, dict)) and len(found) > most:
            raise top.wrong(key, f"at most {most:,} entries")
    records = top.fields("files")
    files = {name: FileRecord(each.get("size", int), each.get("sha256", str)) for name, each in records.items()}
    manifest = Manifest(
        model=top.get("model", str),
        source=top.get("source", dict, {}),
        artifacts=tuple(_artifact(each) for each in top.items("artifacts")),
        inputs=tuple(_spec(each) for each in top.items("inputs")),
        outputs=tuple(_spec(each) for each in top.items("outputs")),
        files=files,
        tolerance=top.get("tolerance", dict, {}),
        rewrites=tuple(_rule(each) for each in top.items("rewrites", [])),
        warnings=top.strings("warnings"),
        preprocessing=top.get("preprocessing", dict, {}),
        labels=top.strings("labels"),
        environment=top.get("environment", dict, {}),
        seed=top.get("seed", int, 0),
        created=top.get("created", str, ""),
        schema=schema,
        raw=raw,
    )
    chosen = Fields(manifest.tolerance, f"{top.where}: tolerance").get("chosen", (int, float), None)
    if chosen is not None and not 0 < chosen < math.inf:
        raise top.wrong("tolerance: chosen", "a positive number or null")
    if manifest.tolerance.get("precision", "float32") not in PRECISIONS:
        raise top.wrong("tolerance: precision", " or ".join(PRECISIONS))
    for name in [*files, *(artifact.path for artifact in manifest.artifacts)]:
        _check_path(name, directory, top.where)
    for kind, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if len({spec.name for spec in specs}) != len(specs) or not specs:
            raise InputError(f"{top.where}: {kind}: empty, or a name occurs twice; export the model again")
    for artifact in manifest.artifacts:
        if not any(name == artifact.path or name.startswith(f"{artifact.path}/") for name in files):
            raise InputError(f"{top.where}: files: no hash of artifact {artifact.path!r}; export the model again")
        for kind, own, given in (
            ("inputs", manifest.inputs, artifact.inputs), ("outputs", manifest.outputs, artifact.outputs)
        ):  # fmt: skip
            if sorted(spec.name for spec in own) != sorted(spec.name for spec in given):
                what = f"the {kind} of artifact {artifact.path!r} differ from the model's"
                raise InputError(f"{top.where}: {what}; {EXPORT_AGAIN}")
        if len({spec.shape[0] for spec in artifact.inputs}) > 1:
            what = f"the inputs of artifact {artifact.path!r} have different batch sizes"
            raise InputError(f"{top.where}: {what}; {EXPORT_AGAIN}")
    return manifest


def _check_path(name: str, directory: Path, where: str) -> None:
    """Refuse any path that is not a plain relative path inside `directory`, with links resolved."""
    pure = PurePosixPath(name)
    odd = not name.isprintable() or "\\" in name or ":" in name or name != pure.as_posix()
    if odd or pure.is_absolute() or not pure.parts or ".." in pure.parts:
        raise InputError(f"{where}: {name!r} is not a path inside the directory; {EXPORT_AGAIN}")
    if not (directory / name).resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{where}: {name!r} is a link that leads out of the directory; {EXPORT_AGAIN}")


def _spec(fields: Fields) -> TensorSpec:
    shape = fields.get("shape", list)
    if not shape or any(isinstance(axis, bool) or not isinstance(axis, int | None) for axis in shape):
        raise fields.wrong("shape", "a list of whole numbers or null, batch axis first")
    if any(axis is not None and axis < 0 for axis in shape):
        raise fields.wrong("shape", "sizes of at least 0")
    if any(axis is not None and axis > LARGEST_AXIS for axis in shape):
        raise fields.wrong("shape", f"sizes of at most {LARGEST_AXIS}")
    layout, activation = fields.get("layout", str, ""), fields.get("activation", str, "linear")
    if layout not in LAYOUTS:
        raise fields.wrong("layout", '"nhwc", "nchw" or ""')
    if activation not in ACTIVATIONS:
        raise fields.wrong("activation", " or ".join(ACTIVATIONS))
    dtype = fields.get("dtype", str, "float32")
    return TensorSpec(fields.get("name", str), tuple(shape), dtype, layout, cast(Activation, activation))


def _artifact(fields: Fields) -> Artifact:
    operators = fields.get("operators", dict, {})
    if any(
        isinstance(count, bool) or not isinstance(count, int) or abs(count) > LARGEST for count in operators.values()
    ):
        raise fields.wrong("operators", "a whole number for every operator")
    precision = fields.get("precision", str, "float32")
    if precision not in PRECISIONS:
        raise fields.wrong("precision", " or ".join(PRECISIONS))
    return Artifact(
        format=fields.get("format", str),
        path=fields.get("path", str),
        precision=precision,
        inputs=tuple(_spec(each) for each in fields.items("inputs")),
        outputs=tuple(_spec(each) for each in fields.items("outputs")),
        operators=operators,
        size=fields.get("size", int),
        seconds=float(fields.get("seconds", (int, float), 0.0)),
        options=fields.get("options", dict, {}),
    )


def _rule(fields: Fields) -> RuleResult:
    return RuleResult(
        fields.get("rule", str), fields.get("layer", str), fields.get("applied", bool), fields.get("reason", str, "")
    )
