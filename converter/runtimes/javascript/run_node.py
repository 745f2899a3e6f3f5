"""onnxruntime-node (native) and onnxruntime-web (WebAssembly), both in Node.js on the CPU: read ONNX files.

For each artifact a Node.js process runs web/node.mjs, with frames on its standard input and output.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from converter.core.data import Array, Artifact, Prepared, Runtime
from converter.core.ending import bound
from converter.core.errors import ChildError
from converter.core.foreign import JsonObject
from converter.runtimes.javascript.frames import decode, read_frame
from converter.runtimes.javascript.packages import WEB, missing_package, modules_directory, package_version
from converter.runtimes.javascript.session import last_words, prepared
from converter.runtimes.shared.installed import threads


def unavailable(package: str, device: str) -> str | None:
    """Why `package` cannot run on `device` here, or None. No process is started."""
    if device != "cpu":
        return f"{package} runs on the CPU only"
    if shutil.which("node") is None:
        return "Node.js is not installed (no program node); apt-get install nodejs npm, or nodejs.org"
    return missing_package(package)


def prepare(package: str, path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load an ONNX file with `package`. Raises what `session.prepared` raises."""
    program, modules = shutil.which("node"), modules_directory(package)
    if program is None or modules is None:
        raise ChildError(f"{package}: {unavailable(package, 'cpu')}")
    arguments = [str(WEB / "node.mjs"), package, str(modules), str(path.resolve()), str(threads())]
    return prepared(_Node(package, [program, *arguments]), package, path, artifact)


class _Node:
    """A Node.js process; it is killed when this process ends."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            bound(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        atexit.register(self.close)

    def send(self, frame: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ChildError(f"{self.name}: its process ended{last_words(self._log)}") from error

    def answer(self) -> tuple[JsonObject, dict[str, Array]]:
        assert self._process.stdout is not None
        frame = read_frame(self._process.stdout)
        if frame is None:
            status = self._process.wait()
            raise ChildError(f"{self.name}: Node.js ended with status {status}{last_words(self._log)}")
        return decode(frame)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _runtime(package: str) -> Runtime:
    return Runtime(
        package,
        ("onnx",),
        ("cpu",),
        functools.partial(package_version, package),
        functools.partial(unavailable, package),
        functools.partial(prepare, package),
    )


NODE = _runtime("onnxruntime-node")
WEB_IN_NODE = _runtime("onnxruntime-web")
