"""The local HTTP server of web/browser.html: sends the page its files and inputs, receives its answers.

It listens on 127.0.0.1 only, under a random path. Its headers make the page cross-origin isolated (without them
WebAssembly has one thread) and forbid it to load anything from other servers.
"""

from __future__ import annotations

import http.server
import json
import queue
import re
import secrets
import shutil
import threading
import urllib.parse
from pathlib import Path
from typing import Any

from converter.runtimes.javascript.packages import WEB
from converter.runtimes.shared.onnx_records import sidecar_of

_TYPES = {".html": "text/html; charset=utf-8", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; "
    "worker-src 'self' blob:; connect-src 'self'; img-src data:",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_POLL = 20.0  # seconds that a request for a job waits before it is answered with 204


class PageServer:
    """Serves one artifact to one page, whose address is `url`."""

    def __init__(self, model: Path, scripts: Path, threads: int) -> None:
        """Start serving `model`; `scripts` is the directory dist of onnxruntime-web, `threads` is for WebAssembly."""
        token = secrets.token_urlsafe(16)
        sidecar = sidecar_of(model)
        self.prefix = f"/{token}/"
        self.files = {"browser.html": WEB / "browser.html", "model": model}
        self.files |= {name: WEB / name for name in ("browser.mjs", "frame.mjs")}
        if sidecar is not None:
            self.files["model.data"] = sidecar
        self.scripts = scripts
        self.settings = {"threads": threads, "sidecar": sidecar.name if sidecar else None}
        self.jobs: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[bytes] = queue.Queue()
        page = self

        class Handler(_Handler):
            server_page = page

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{self.prefix}browser.html"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def file(self, name: str) -> Path | None:
        """The file that the page gets for `name`, or None if it may not have any."""
        if name.startswith("ort/"):
            plain = re.fullmatch(r"ort/([A-Za-z0-9._-]+\.(?:mjs|wasm))", name)
            found = self.scripts / plain[1] if plain else None
            return found if found and found.is_file() else None
        return self.files.get(name)

    def send(self, frame: bytes) -> None:
        """Put a frame of inputs into the queue of the page."""
        self.jobs.put(frame)

    def receive(self, seconds: float) -> bytes | None:
        """The page's next answer, or None if none arrives within `seconds`."""
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server_page: PageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits until its headers are acknowledged

    def do_GET(self) -> None:
        name = self._name()
        if name == "job":
            try:
                self._send(200, self.server_page.jobs.get(timeout=_POLL))
            except queue.Empty:
                self._send(204)
        elif name == "settings":
            self._send(200, json.dumps(self.server_page.settings).encode(), "application/json")
        else:
            self._send_file(self.server_page.file(name) if name else None)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self._name() != "answer" or not length.isdigit():
            self._send(404)
            return
        self.server_page.answers.put(self.rfile.read(int(length)))
        self._send(204)

    def _name(self) -> str | None:
        """What is requested, after the secret prefix, or None if the prefix is wrong."""
        path = urllib.parse.urlsplit(self.path).path
        known = secrets.compare_digest(path[: len(self.server_page.prefix)].encode(), self.server_page.prefix.encode())
        return path[len(self.server_page.prefix) :] if known else None

    def _send(self, status: int, body: bytes = b"", kind: str = "application/octet-stream") -> None:
        self._head(status, len(body), kind)
        self.wfile.write(body)

    def _send_file(self, path: Path | None) -> None:
        if path is None:
            self._send(404)
            return
        with path.open("rb") as file:
            self._head(200, path.stat().st_size, _TYPES.get(path.suffix, "application/octet-stream"))
            shutil.copyfileobj(file, self.wfile, 1 << 20)

    def _head(self, status: int, length: int, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
            self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
