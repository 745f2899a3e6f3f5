"""`verify --server`: the proof replayed over HTTP, in a stand-in that answers right or wrong, and in a real Triton."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import converter
from converter.core.errors import UnavailableError, UsageError
from converter.runtimes.run_server import check_address
from converter.runtimes.shared.inference_protocol import TYPES
from converter.serving.package import package

Change = Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def serving(
    path: Path, *, binary: bool = False, platform: str = "onnxruntime_onnx", change: Change = dict, body: bytes = b""
) -> Iterator[str]:
    """The address of a server of the ONNX file `path`; `change` alters its outputs, `body` replaces its answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = [[each.name for each in side] for side in (session.get_inputs(), session.get_outputs())]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            signature = {"inputs": dict.fromkeys(inputs), "outputs": dict.fromkeys(outputs)}
            self.answer({
                "/v2": {"name": "stand-in", "extensions": ["binary_tensor_data"] if binary else []},
                "/v2/models/net": {
                    "platform": platform,
                    "inputs": [{"name": name} for name in inputs],
                    "outputs": [{"name": name} for name in outputs],
                },
                "/v1/models/net/metadata": {
                    "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}
                },
            }.get(self.path))  # fmt: skip

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            end = int(self.headers.get("Inference-Header-Content-Length", len(data)))
            asked, tail = json.loads(data[:end]), data[end:]
            if self.path.endswith(":predict"):
                given = {name: np.array(each, np.float32) for name, each in asked["inputs"].items()}
            else:
                given = {}
                for each in asked["inputs"]:
                    assert each["datatype"] == "FP32"
                    size = each.get("parameters", {}).get("binary_data_size")
                    flat = np.frombuffer(tail[:size], "<f4") if size else np.array(each["data"], np.float32)
                    given[each["name"]] = flat.reshape(each["shape"])
                    tail = tail[size:] if size else tail
            found = change(dict(zip(outputs, session.run(outputs, given), strict=True)))
            if self.path.endswith(":predict"):
                self.answer({"outputs": {name: array.tolist() for name, array in found.items()}})
                return
            answers, bytes_ = [], b""
            for name, array in found.items():
                one = {"name": name, "shape": list(array.shape), "datatype": TYPES[array.dtype.name]}
                if binary:
                    one["parameters"] = {"binary_data_size": array.nbytes}
                    bytes_ += array.tobytes()
                else:
                    one["data"] = array.ravel().tolist()
                answers.append(one)
            self.answer({"outputs": answers}, bytes_)

        def answer(self, content: Any, tail: bytes = b"") -> None:
            text = body if body and self.command == "POST" else json.dumps(content).encode()
            self.send_response(404 if content is None else 200)
            if tail and not body:
                self.send_header("Inference-Header-Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text + (b"" if body else tail))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def verified(directory: Path, address: str) -> Any:
    return converter.verify(directory, runtimes="onnxruntime", server=address)


def row_of_server(report: Any) -> Any:
    (row,) = [row for row in report.rows if row.runtime == "server"]
    return row


@pytest.mark.parametrize(
    ("binary", "place", "tensors"),
    [(False, "/v2/models/net", "JSON"), (True, "/v2/models/net/", "binary"), (False, "/v1/models/net", "JSON")],
)
def test_the_proof_is_replayed(binary: bool, place: str, tensors: str, exported: Any) -> None:
    platform = "" if "/v1/" in place else "onnxruntime_onnx"
    with serving(exported.directory / "model.onnx", binary=binary, platform=platform) as address:
        report = verified(exported.directory, address + place)
    assert report.verdict == "pass"
    row = row_of_server(report)
    assert row.device == address + place
    assert row.subject == ("saved-model" if "/v1/" in place else "onnx")  # /v1/ is TensorFlow's own protocol
    assert row.facts["tensors"] == tensors
    assert row.facts["batches"] == [1, 3, 8]
    assert any("in server" in each.name and each.detected for each in report.controls)


def exchanged(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array[::-1].copy() for name, array in outputs.items()}


def scaled(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array * np.float32(1 + 1e-3) for name, array in outputs.items()}


def first_alone(outputs: dict[str, Any]) -> dict[str, Any]:
    return dict(list(outputs.items())[:1])


def one_sample(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array[:1] for name, array in outputs.items()}


def doubled(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array.astype(np.float64) for name, array in outputs.items()}


@pytest.mark.parametrize("change", [exchanged, scaled, first_alone, one_sample, doubled])
@pytest.mark.parametrize("binary", [False, True])
def test_a_server_that_answers_wrongly_fails(binary: bool, change: Change, exported: Any) -> None:
    with serving(exported.directory / "model.onnx", binary=binary, change=change) as address:
        report = verified(exported.directory, f"{address}/v2/models/net")
    assert report.verdict == "fail"
    assert not row_of_server(report).passed
    assert all(row.passed for row in report.rows if row.runtime != "server")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON"),
        (b"[]", "a JSON object"),
        (b"{}", "outputs"),
        (b'{"outputs": [{"name": "main", "datatype": "FP32", "shape": [8, 9], "data": [1]}]}', "reshape"),
        (b'{"outputs": [{"name": "main", "datatype": "FP32", "shape": [1], "data": ["a"]}]}', "array of numbers"),
        (b'{"outputs": [{"name": "main", "datatype": "FP32", "shape": [-9e99], "data": [1]}]}', "outputs"),
        (b'{"outputs": [{"name": "main", "datatype": "FP32", "shape": [5], "parameters": {"binary_data_size": -3}}]}',
         "-3 bytes"),
    ],
)  # fmt: skip
def test_an_answer_of_another_protocol_is_a_failed_row(body: bytes, message: str, exported: Any) -> None:
    with serving(exported.directory / "model.onnx", body=body) as address:
        row = row_of_server(verified(exported.directory, f"{address}/v2/models/net"))
    assert not row.passed
    assert "not one of its protocol" in row.error
    assert message in row.error


def test_a_server_of_another_model_or_none(exported: Any, cnnexport: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v2/models/net"
    with pytest.raises(UnavailableError, match="no answer"):
        verified(exported.directory, nobody)
    with serving(exported.directory / "model.onnx", platform="tensorrt_plan") as address:
        with pytest.raises(UnavailableError, match="404"):
            verified(exported.directory, f"{address}/v2/models/other")
        outcome = cnnexport("verify", exported.directory, "--server", f"{address}/v2/models/other", "-q")
        assert (outcome.code, "404" in outcome.stderr) == (5, True)
        outcome = cnnexport("verify", exported.directory, "--server", f"{address}/v2/models/net", "-q", "--json")
        assert outcome.code == 0
        assert json.loads(outcome.stdout)["rows"][-1]["runtime"] == "server"
    with (
        serving(exported.directory / "model.onnx", platform="tflite") as address,
        pytest.raises(UsageError, match="of"),
    ):
        verified(exported.directory / "model.onnx", f"{address}/v2/models/net")


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "127.0.0.1:8000", "http://host/v2/net", "http://host/v3/models/net", "ftp://host/v2/models/net",
     "http://user:word@host/v2/models/net", "http://host/v2/models/net?x=1", "http://[host/v2/models/net"],
)  # fmt: skip
def test_what_is_no_address_of_a_model(address: str) -> None:
    with pytest.raises(UsageError, match="--server"):
        check_address(address)


def test_an_address_is_text(exported: Any) -> None:
    with pytest.raises(UsageError, match="server: expected an address as text"):
        converter.verify(exported.directory, server=5)  # type: ignore[typeddict-item]


MODEL = """
import os
import sys

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, given):
        path = os.path.join(given["model_repository"], given["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        names = [each.name for each in self.session.get_outputs()]
        answers = []
        for request in requests:
            given = {
                each.name: backend.get_input_tensor_by_name(request, each.name).as_numpy()
                for each in self.session.get_inputs()
            }
            found = zip(names, self.session.run(names, given))
            answers.append(backend.InferenceResponse([backend.Tensor(name, array) for name, array in found]))
        return answers
"""
"""onnxruntime in Triton's Python backend, the only one that nvidia-pytriton ships."""


@pytest.mark.slow
@pytest.mark.external
def test_triton_itself_serves_the_package(exported: Any, tmp_path: Path) -> None:
    """Triton 2.x out of nvidia-pytriton reads our config.pbtxt, but for the backend, and answers the golden inputs."""
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin/python", "-m", "pip", "install", "-q", "nvidia-pytriton", "onnxruntime"], check=True)
    site = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    triton = site / "pytriton/tritonserver"
    (stub,) = (triton / f"python_backend_stubs/3.{sys.version_info.minor}").iterdir()
    shutil.copy(stub, triton / "backends/python")
    (triton / "backends/python" / stub.name).chmod(0o755)
    made = Path(package(exported.directory, "triton", tmp_path / "repository", form="onnx", copy=True).directory)
    (folder,) = made.iterdir()
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace('platform: "onnxruntime_onnx"', 'backend: "python"'))
    (folder / "1/model.py").write_text(MODEL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    libraries = [site / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    server = subprocess.Popen(
        [triton / "bin/tritonserver", f"--model-repository={made}", f"--backend-directory={triton / 'backends'}",
         f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"],
        env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)), "PYTHONPATH": str(site)},
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/v2"
        for _ in range(120):
            assert server.poll() is None
            try:
                urllib.request.urlopen(f"{address}/health/ready").close()
                break
            except OSError:
                time.sleep(0.5)
        report = verified(exported.directory, f"{address}/models/{folder.name}")
    finally:
        server.terminate()
        server.wait(60)
    assert report.verdict == "pass"
    assert row_of_server(report).facts["tensors"] == "binary"
