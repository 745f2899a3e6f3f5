"""onnxruntime-web (WebAssembly) in a browser: a page in headless Chromium runs the ONNX file, on the CPU.

The page (web/browser.html) comes from a server on 127.0.0.1, and its outputs go back there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from converter.core.data import Array, Artifact, Prepared, Runtime
from converter.core.errors import ChildError, UnavailableError
from converter.core.foreign import JsonObject
from converter.runtimes.javascript.frames import decode
from converter.runtimes.javascript.packages import missing_package, modules_directory, package_version
from converter.runtimes.javascript.page_server import PageServer
from converter.runtimes.javascript.session import last_words, prepared
from converter.runtimes.shared.installed import threads

_PACKAGE = "onnxruntime-web"
PROGRAM_VARIABLE = "CNNEXPORT_CHROMIUM"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_TIMEOUT = 300.0  # seconds for one answer of the page
_ARGUMENTS = (
    "--headless",
    # the page is part of this package, and WebAssembly reads the model; without this flag Chromium refuses to run as
    # root and in most containers
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",  # the browser ends when this process does, since the pipe is closed then
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--no-pings",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def version() -> str | None:
    """The version of onnxruntime-web that the page loads, or None."""
    return package_version(_PACKAGE)


def unavailable(device: str) -> str | None:
    """Why the page cannot run on `device` here, or None. No browser is started."""
    if device != "cpu":
        return "the page runs on the CPU only"
    if os.name != "posix":
        return "the browser can be started on Linux and macOS only"
    if _program() is None:
        return f"no Chromium found; apt-get install chromium, or set ${PROGRAM_VARIABLE}"
    return missing_package(_PACKAGE)


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load an ONNX file in the page. Raises what `session.prepared` raises."""
    program, modules = _program(), modules_directory(_PACKAGE)
    if program is None or modules is None:
        raise UnavailableError(f"chromium: {unavailable('cpu')}")
    page = _Page(program, PageServer(path.resolve(), modules / _PACKAGE / "dist", threads()))
    return prepared(page, _PACKAGE, path, artifact)


class _Page:
    """A headless browser on the server's page, with a fresh profile; both are removed when this process ends."""

    name = f"{_PACKAGE} in Chromium"

    def __init__(self, program: str, server: PageServer) -> None:
        self._server = server
        self._profile = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the browser
        command = [program, *_ARGUMENTS, f"--user-data-dir={self._profile.name}", server.url]
        # Chromium's debugging pipe is on file descriptors 3 and 4, which a shell can set and Popen cannot
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        atexit.register(self.close)

    def send(self, frame: bytes) -> None:
        self._server.send(frame)

    def answer(self) -> tuple[JsonObject, dict[str, Array]]:
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            frame = self._server.receive(0.5)
            if frame is not None:
                return decode(frame)
            if self._process.poll() is not None:
                status = self._process.returncode
                raise ChildError(f"chromium ended with status {status}{last_words(self._log)}")
        raise ChildError(f"chromium: no answer after {_TIMEOUT:.0f} s{last_words(self._log)}")

    def close(self) -> None:
        """End the browser with all its processes, then remove its profile."""
        atexit.unregister(self.close)
        self._server.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._profile.cleanup()


def _program() -> str | None:
    chosen = os.environ.get(PROGRAM_VARIABLE)
    return shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, _PROGRAMS)), None)


RUNTIME = Runtime("chromium", ("onnx",), ("cpu",), version, unavailable, prepare)
