"""onnxruntime-web (WebAssembly) in a real browser: a page in headless Chromium runs the ONNX file.

The page (web/browser.html) comes from a server on 127.0.0.1 and posts its outputs back; they are compared here, as
every runtime's are.
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
from typing import IO, Any

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import ChildError, InputError, UnavailableError
from converter.core.text import first_line
from converter.runtimes.javascript.frames import decode, encode, missing_package, modules_directory, package_version
from converter.runtimes.javascript.page_server import PageServer
from converter.runtimes.shared.installed import cpu_name, require_names, threads

_PACKAGE = "onnxruntime-web"
PROGRAM_VARIABLE = "CNNEXPORT_CHROMIUM"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_PATIENCE = 300.0  # seconds for one answer of the page
_ARGUMENTS = (
    "--headless",
    # the page is ours and the model is read by WebAssembly; without this flag Chromium refuses to run as root, and in
    # most containers
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
    """Why no page can run on `device` here, or None. No browser is started for the answer."""
    if device != "cpu":
        return "the page is run on the CPU"
    if os.name != "posix":
        return "the browser is started on Linux and macOS only"
    if _program() is None:
        return f"no Chromium found; apt-get install chromium, or set ${PROGRAM_VARIABLE}"
    return missing_package(_PACKAGE)


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Open the page and let it load an ONNX file; the session's own names are paired with those of `artifact`.

    `facts` get "run_seconds", the last call as the page saw it. Raises InputError where onnxruntime-web refuses the
    file or a name differs, ChildError where the browser dies or does not answer.
    """
    program, modules = _program(), modules_directory(_PACKAGE)
    if program is None or modules is None:
        raise UnavailableError(f"chromium: {unavailable('cpu')}")
    page = _Page(program, PageServer(path.resolve(), modules / _PACKAGE / "dist", threads()))
    header, _ = page.answer()
    if "error" in header:
        raise InputError(f"{path}: {_PACKAGE} in Chromium cannot load it: {first_line(header['error'])}")
    outputs = [spec.name for spec in artifact.outputs]
    require_names(path, "input", [spec.name for spec in artifact.inputs], header["inputs"])
    require_names(path, "output", outputs, header["outputs"])
    facts: dict[str, Any] = {_PACKAGE: version(), **header["facts"], "device_name": cpu_name()}

    def run(inputs: Arrays) -> dict[str, Array]:
        page.server.send(encode(inputs))
        header, arrays = page.answer()
        if "error" in header:
            raise InputError(f"{path}: {_PACKAGE} in Chromium cannot run it: {first_line(header['error'])}")
        facts["run_seconds"] = header["milliseconds"] / 1e3
        return {name: arrays[name] for name in outputs}

    return Prepared(run, facts)


class _Page:
    """A headless browser on the server's page, with a fresh profile; both are gone when the process ends."""

    def __init__(self, program: str, server: PageServer) -> None:
        self.server = server
        self.profile = tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True)
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the browser
        command = [program, *_ARGUMENTS, f"--user-data-dir={self.profile.name}", server.url]
        # Chromium's debugging pipe is file descriptors 3 and 4, which Popen cannot choose and a shell can
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
        )
        atexit.register(self.close)

    def answer(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The page's next answer. Raises ChildError where the browser ends or takes too long."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            frame = self.server.receive(0.5)
            if frame is not None:
                return decode(frame)
            if self.process.poll() is not None:
                raise ChildError(f"chromium ended with status {self.process.returncode}{self._last_line()}")
        raise ChildError(f"chromium: no answer after {_PATIENCE:.0f} s{self._last_line()}")

    def close(self) -> None:
        """End the browser with all its processes, then remove its profile."""
        self.server.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.profile.cleanup()

    def _last_line(self) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:300]}" if lines else ""


def _program() -> str | None:
    chosen = os.environ.get(PROGRAM_VARIABLE)
    return shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, _PROGRAMS)), None)


RUNTIME = Runtime("chromium", ("onnx",), ("cpu",), version, unavailable, prepare)
