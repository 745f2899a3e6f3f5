"""The bill of materials: CycloneDX 1.6, a machine-learning model with its files, libraries, source and verdict.

The library that writes CycloneDX has no model cards, so the document is built here; a test holds it against the schema.
It has no time of its own: the same export gives the same document.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from converter.bundle.proven import Proven
from converter.core.data import TensorSpec
from converter.core.files import digest_of
from converter.core.foreign import Json, JsonObject

VERSION = "1.6"
_NAMESPACE = uuid.UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")


def bill(proven: Proven) -> JsonObject:
    """The document as a JSON object."""
    manifest, digest = proven.manifest, digest_of(proven.manifest.files)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            **({"timestamp": manifest.created} if manifest.created else {}),
            "component": _model(proven, digest),
        },
        "components": [*_files(proven), *_libraries(proven)],
    }


def _model(proven: Proven, digest: str) -> JsonObject:
    manifest = proven.manifest
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest.model or "model",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "modelCard": {
            "modelParameters": {
                "inputs": [{"format": _shape(each)} for each in manifest.inputs],
                "outputs": [{"format": _shape(each)} for each in manifest.outputs],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(proven.report))},
        },
        "properties": [
            {"name": f"cnnexport:{name}", "value": str(value)}
            for name, value in (
                ("verdict", proven.report["verdict"]),
                ("seed", manifest.seed),
                *((f"source:{key}", each) for key, each in sorted(manifest.source.items()) if _plain(each)),
            )
        ],
    }


def _metrics(report: JsonObject) -> Iterator[JsonObject]:
    """The relative L2 of each output of each row."""
    for row in report.get("rows", []):
        for output in row["outputs"]:
            where = f"{row['subject']} {row['precision']} in {row['runtime']} on {row['device']}: {output['output']}"
            yield {"type": "relative L2", "value": f"{output['relative_l2']:.6g}", "slice": where}


def _files(proven: Proven) -> Iterator[JsonObject]:
    for name, each in sorted(proven.manifest.files.items()):
        yield {
            "type": "file",
            "bom-ref": f"file:{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": each.sha256}],
        }


def _libraries(proven: Proven) -> Iterator[JsonObject]:
    versions = proven.manifest.environment.get("versions", {})
    for name, version in sorted(versions.items()) if isinstance(versions, dict) else ():
        yield {
            "type": "library",
            "bom-ref": f"library:{name}",
            "name": str(name),
            "version": str(version),
            "purl": f"pkg:pypi/{str(name).lower().replace('_', '-')}@{version}",
        }


def _shape(spec: TensorSpec) -> str:
    axes = ", ".join("any" if axis is None else str(axis) for axis in spec.shape)
    return f"{spec.name}: {spec.dtype} ({axes})"


def _plain(value: Json) -> bool:
    return isinstance(value, str | int | float | bool)
