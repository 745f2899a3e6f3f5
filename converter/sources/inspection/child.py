"""A process of its own that reads an untrusted model file, so that whatever the file does happens here.

`python -m converter.sources.inspection.child` reads one JSON request from standard input (`inspect`, beside it, writes
it) and writes one JSON answer: what is in the file, its configuration repaired for Keras 3 and judged safe, or the
error. It imports neither Keras nor TensorFlow, and limits its own memory and time first.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from converter.core.errors import CnnExportError, InputError
from converter.sources.inspection import archive, hdf5
from converter.sources.inspection.safety import check_config
from converter.sources.names import major
from converter.sources.repair.mend import mend

MEMORY = 2 << 30  # bytes of address space
VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")
ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """`kind` ("model" or "weights"), `config`, `mended`, `legacy`, `version`, `weights` (path), `bytes`, `assets`."""
    path = Path(request["path"])
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith((ZIP, b"PK\x05\x06")):
        directory = Path(request["directory"])
        text, metadata, assets = archive.unpack(path, directory)
        weights = directory / archive.WEIGHTS
        found = hdf5.inspect(weights)
        version = _version(_json(metadata or b"{}", archive.METADATA).get("keras_version"))
        facts: dict[str, Any] = {"format": "keras", "version": version, "weights": str(weights), "assets": assets}
    elif magic == HDF5:
        found = hdf5.inspect(path)
        attributes = found["attributes"]
        version = _version(attributes["keras_version"])
        facts = {"format": "hdf5", "version": version, "weights": str(path), "assets": False}
        facts["layout"] = found["kind"]
        text = attributes["model_config"]
    else:
        raise InputError(_neither(path, magic))
    facts["bytes"] = found["bytes"]
    if text is None or request["weights_only"]:
        return facts | {"kind": "weights"}
    config, mended, renamed = mend(_json(text, archive.CONFIG), old=major(facts["version"]) < 3)
    check_config(config, request["custom"], request["trust"])
    return facts | {"kind": "model", "config": config, "mended": mended, "renamed": renamed}


def _version(given: Any) -> str | None:
    """What a file says of the Keras that wrote it; it goes into manifests and reports."""
    return given if isinstance(given, str) and VERSION.fullmatch(given) else None


def _json(text: str | bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} in it is no JSON: {type(error).__name__}\n{archive.DAMAGED}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} in it is no JSON object\n{archive.DAMAGED}")
    return value


def _neither(path: Path, magic: bytes) -> str:
    if not magic:
        return "the file is empty\ngive a model that Keras saved"
    size = path.stat().st_size
    return (
        f"neither a Keras archive nor HDF5 ({size:,} bytes that begin with {magic[:4]!r})\ngive a file that Keras saved"
    )


def _limit(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: the parent's time limit is all there is
        return
    for kind, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def main() -> None:
    request = json.load(sys.stdin)
    _limit(int(request["seconds"]))
    try:
        answer = inspect(request)
    except CnnExportError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except OSError as error:
        answer = {"error": "InputError", "message": f"cannot be read: {error.strerror or error}"}
    except MemoryError:
        answer = {"error": "ChildError", "message": f"reading it takes more than {MEMORY >> 30} GB of memory"}
    except RecursionError:
        answer = {"error": "InputError", "message": f"its configuration is nested too deeply\n{archive.DAMAGED}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
