"""A model in a server, over HTTP: the Open Inference Protocol, and TensorFlow Serving's REST.

Triton, KServe, MLServer and OpenVINO Model Server speak the former. The "device" of this runtime is the address of the
model: `http://HOST:PORT/v2/models/NAME[/versions/VERSION]`, or `/v1/models/NAME[/versions/VERSION]` for TensorFlow
Serving. The file itself is not read: the server has it.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnavailableError, UsageError
from converter.core.foreign import JsonObject
from converter.core.text import first_line
from converter.runtimes.shared.inference_protocol import (
    BINARY,
    MAX_ANSWER,
    Described,
    answer_v1,
    answer_v2,
    described_v1,
    described_v2,
    json_of,
    request_v1,
    request_v2,
)
from converter.runtimes.shared.names import require_interface

NAME = "server"
_SECONDS = 120.0
_FORMATS = {"onnx": "onnx", "tensorflow": "saved-model", "tflite": "tflite"}


def check_address(address: str) -> None:
    """Raise UsageError unless `address` is that of a model in a server."""
    try:
        parts = urlsplit(address)
    except ValueError as error:  # a bracket without its other one
        raise UsageError(f"--server {address}: {first_line(error)}") from error
    path = parts.path.strip("/").split("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or len(path) not in (3, 5) or path[1] != "models":
        raise UsageError(
            f"--server {address}: expected http://HOST:PORT/v2/models/NAME, or /v1/ for TensorFlow Serving"
        )
    if path[0] not in ("v1", "v2"):
        raise UsageError(f"--server {address}: only /v2/models/NAME and TensorFlow Serving's /v1/models/NAME are known")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("--server: an address without credentials, query and fragment; it becomes part of the report")


def unavailable(device: str) -> str | None:
    """Why the model at the address `device` does not answer, or None."""
    try:
        _described(device)
    except (UnavailableError, InputError) as error:
        return str(error)
    return None


def served_format(address: str) -> str | None:
    """The format of the file that the server at `address` says it runs; None if it does not say.

    Raises UnavailableError for a server that does not answer, or that answers something else.
    """
    try:
        platform = _described(address).platform.lower()
    except InputError as error:
        raise UnavailableError(str(error)) from error
    return next((form for text, form in _FORMATS.items() if text in platform), None)


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Ask the server at the address `device` for the names of the model's inputs and outputs; the file is not read.

    Raises UnavailableError for a server that does not answer, InputError where its names are not those of `artifact`
    or an answer is not one of the protocol.
    """
    described = _described(device)
    require_interface(path, artifact, described.inputs, described.outputs)
    address, types = device.rstrip("/"), {spec.name: spec.dtype for spec in artifact.outputs}
    if _of_tensorflow(device):

        def run(inputs: Arrays) -> dict[str, Array]:
            return answer_v1(_asked(f"{address}:predict", request_v1(inputs))[0], types, device)

        return Prepared(run, {"protocol": "TensorFlow Serving", "tensors": "JSON", "platform": described.platform})
    binary = BINARY in _extensions(address)

    def infer(inputs: Arrays) -> dict[str, Array]:
        body, header = _asked(f"{address}/infer", request_v2(inputs, list(types), binary))
        return answer_v2(body, header, types, device)

    how = "binary" if binary else "JSON"
    return Prepared(infer, {"protocol": "Open Inference Protocol", "tensors": how, "platform": described.platform})


def _of_tensorflow(address: str) -> bool:
    return urlsplit(address).path.startswith("/v1/")


def _described(address: str) -> Described:
    plain = address.rstrip("/")
    if _of_tensorflow(address):
        return described_v1(_json(f"{plain}/metadata"), address)
    return described_v2(_json(plain), address)


def _extensions(address: str) -> list[str]:
    """The extensions of the protocol that the server has; none if it does not say."""
    try:
        found = _json(address[: address.index("/v2/") + 3]).get("extensions")
    except (UnavailableError, InputError):
        return []
    return found if isinstance(found, list) else []


def _json(address: str) -> JsonObject:
    body, _ = _asked(address, None)
    return json_of(body, address)


def _asked(address: str, message: tuple[bytes, dict[str, str]] | None) -> tuple[bytes, str]:
    """The body of the answer, and the length of its JSON if tensors follow it."""
    body, headers = message or (None, {})
    request = urllib.request.Request(address, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # `check_address` allows http only
            data = answer.read(MAX_ANSWER + 1)
            header = answer.headers.get("Inference-Header-Content-Length", "")
    except urllib.error.HTTPError as error:
        text = first_line(error.read(2000).decode("utf-8", "replace"))
        raise InputError(f"{address}: the server answers {error.code}: {text[:300]}") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{address}: no answer: {first_line(error)}") from error
    if len(data) > MAX_ANSWER:
        raise InputError(f"{address}: the answer is larger than {MAX_ANSWER >> 20} MB")
    return data, header


def _version() -> str | None:
    return None


RUNTIME = Runtime(NAME, ("onnx", "tflite", "saved-model"), (), _version, unavailable, prepare)
