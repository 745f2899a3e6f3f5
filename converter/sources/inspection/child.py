"""The child process that reads an untrusted model file, so that a crash or an attack stops here.

`python -m converter.sources.inspection.child` reads a `Request` from standard input and writes an `Answer`, or the
error, to standard output. It imports neither Keras nor TensorFlow, and limits its own memory and time first. The other
end is `converter.sources.inspection.inspect`.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from converter.core.disk import FULL, output_error
from converter.core.ending import end_with_parent
from converter.core.errors import ChildError, CnnExportError, InputError
from converter.core.foreign import Json, JsonObject
from converter.sources.inspection import archive, hdf5
from converter.sources.inspection.protocol import Answer, Request, read_request, to_text
from converter.sources.inspection.safety import check_config
from converter.sources.names import major
from converter.sources.repair.repair import repair

MEMORY = 2 << 30  # bytes of address space
VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")
ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


def inspect(request: Request) -> Answer:
    """What `request.path` contains.

    Raises InputError where it is damaged or not a model, UnsafeError where loading it would be dangerous.
    """
    with request.path.open("rb") as stream:
        magic = stream.read(8)
    config: str | bytes | None
    if magic.startswith((ZIP, b"PK\x05\x06")):
        config, metadata, assets = archive.unpack(request.path, request.directory)
        weights = request.directory / archive.WEIGHTS
        content = hdf5.inspect(weights)
        version = _version(_json_object(metadata or b"{}", archive.METADATA).get("keras_version"))
        answer = Answer("keras", version, weights, content.weight_bytes, assets)
    elif magic == HDF5:
        content = hdf5.inspect(request.path)
        config = content.model_config
        answer = Answer("hdf5", _version(content.keras_version), request.path, content.weight_bytes)
    else:
        raise InputError(_unknown_format(request.path, magic))
    if config is None or request.weights_only:
        return answer
    found = repair(_json_object(config, archive.CONFIG), old=major(answer.version) < 3)
    check_config(found.config, request.custom, request.trust)
    return replace(answer, config=found.config, repairs=found.notes, renamed=found.renamed)


def _version(given: Json) -> str | None:
    """The version of Keras that a file states; None for text that is not a version, since it goes into reports."""
    return given if isinstance(given, str) and VERSION.fullmatch(given) else None


def _json_object(text: str | bytes, name: str) -> JsonObject:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else type(error).__name__
        raise InputError(f"{name} in it is not JSON: {reason}\n{archive.DAMAGED}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} in it is not a JSON object\n{archive.DAMAGED}")
    return value


def _unknown_format(path: Path, magic: bytes) -> str:
    if not magic:
        return "the file is empty\ngive a model that Keras saved"
    size = path.stat().st_size
    return (
        f"neither a Keras archive nor HDF5 ({size:,} bytes that begin with {magic[:4]!r})\ngive a file that Keras saved"
    )


def _limit(seconds: int) -> None:
    """Limit the memory and the processor time of this process, and forbid core dumps."""
    try:
        import resource
    except ImportError:  # on Windows only the parent's time limit applies
        return
    for kind, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def main() -> None:
    """Read the request, inspect the file, write the answer or the error. Exit status 0 unless the process fails."""
    end_with_parent()
    request = read_request(sys.stdin.read())
    _limit(request.seconds)
    answer: Answer | CnnExportError
    try:
        answer = inspect(request)
    except CnnExportError as error:
        answer = error
    except OSError as error:
        answer = output_error(error, codes=FULL) or InputError(
            f"cannot be read: {error.strerror or error}\ncheck the file and its permissions"
        )
    except MemoryError:
        answer = ChildError(f"reading it takes more than {MEMORY >> 30} GB of memory\nthe file is damaged or malicious")
    except RecursionError:
        answer = InputError(f"its configuration is nested too deeply\n{archive.DAMAGED}")
    sys.stdout.write(to_text(answer))


if __name__ == "__main__":
    main()
