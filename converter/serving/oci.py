"""An OCI image layout: each proven file is a blob under its sha256, listed by an artifact manifest (image spec 1.1)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from converter.bundle.manifest import MANIFEST, REPORT
from converter.bundle.proven import Proven
from converter.core.files import record_of
from converter.core.foreign import JsonObject
from converter.serving.content import Files, PackageOptions, model_name

ARTIFACT = "application/vnd.cnnexport.model.v1"
LAYER = "application/octet-stream"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE, NAME, CREATED = (f"org.opencontainers.image.{each}" for each in ("title", "ref.name", "created"))


def layout(proven: Proven, options: PackageOptions) -> Files:
    """The layout directory: `oci-layout`, `index.json` and the blobs. The same export gives the same bytes."""
    files: dict[str, Path | str] = {}
    layers = []
    for name in (*proven.manifest.files, MANIFEST, REPORT):
        path = proven.directory / name
        record = proven.manifest.files.get(name) or record_of(path)
        files[_blob(record.sha256)] = path
        layers.append({**_descriptor(LAYER, record.sha256, record.size), "annotations": {TITLE: name}})
    config = _text(files, {})
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT,
        "config": _descriptor(EMPTY, *config),
        "layers": layers,
        "annotations": {TITLE: model_name(proven, options), CREATED: proven.manifest.created},
    }
    written = _text(files, manifest)
    reference = {**_descriptor(OCI_MANIFEST, *written), "artifactType": ARTIFACT}
    reference["annotations"] = {NAME: str(options.version)}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [reference]}
    files["index.json"] = json.dumps(index)
    files["oci-layout"] = json.dumps({"imageLayoutVersion": "1.0.0"})
    return files


def _text(files: dict[str, Path | str], value: JsonObject) -> tuple[str, int]:
    """Add `value` as a blob; its digest and size."""
    text = json.dumps(value, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    files[_blob(digest)] = text
    return digest, len(text.encode())


def _descriptor(kind: str, digest: str, size: int) -> JsonObject:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"
