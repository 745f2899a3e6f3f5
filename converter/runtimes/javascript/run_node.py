"""onnxruntime-node (native) and onnxruntime-web (WebAssembly), both in Node.js: read ONNX files.

One Node.js process per artifact, web/node.mjs, answers frames of inputs with frames of outputs.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import ChildError, InputError
from converter.core.text import first_line
from converter.runtimes.javascript.frames import (
    WEB,
    decode,
    encode,
    missing_package,
    modules_directory,
    package_version,
    read_frame,
)
from converter.runtimes.shared.installed import cpu_name, require_names, threads


def unavailable(package: str, device: str) -> str | None:
    """Why `package` cannot run on `device` here, or None. No process is started for the answer."""
    if device != "cpu":
        return f"{package} is run on the CPU"
    if shutil.which("node") is None:
        return "Node.js is not installed (no program node); apt-get install nodejs npm, or nodejs.org"
    return missing_package(package)


def prepare(package: str, path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load an ONNX file; the session's own names are paired with those of `artifact`.

    `facts` get "run_seconds", the last call as Node.js saw it, without the way there and back. Raises InputError where
    the runtime refuses the file or a name differs, ChildError where Node.js dies.
    """
    program, modules = shutil.which("node"), modules_directory(package)
    if program is None or modules is None:
        raise ChildError(f"{package}: {unavailable(package, 'cpu')}")
    log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
    process = subprocess.Popen(
        [program, str(WEB / "node.mjs"), package, str(modules), str(path.resolve()), str(threads())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    atexit.register(_stop, process)
    header, _ = _answer(process, log, package)
    if "error" in header:
        raise InputError(f"{path}: {package} cannot load it: {first_line(header['error'])}")
    outputs = [spec.name for spec in artifact.outputs]
    require_names(path, "input", [spec.name for spec in artifact.inputs], header["inputs"])
    require_names(path, "output", outputs, header["outputs"])
    facts: dict[str, Any] = {
        package: package_version(package),
        **header["facts"],
        "device_name": cpu_name(),
    }

    def run(inputs: Arrays) -> dict[str, Array]:
        assert process.stdin is not None
        try:
            process.stdin.write(encode(inputs))
            process.stdin.flush()
        except BrokenPipeError as error:
            raise ChildError(f"{package}: its process ended{_last_line(log)}") from error
        header, arrays = _answer(process, log, package)
        if "error" in header:
            _stop(process)
            raise InputError(f"{path}: {package} cannot run it: {first_line(header['error'])}")
        facts["run_seconds"] = header["milliseconds"] / 1e3
        return {name: arrays[name] for name in outputs}

    return Prepared(run, facts)


def _answer(process: subprocess.Popen[bytes], log: IO[bytes], package: str) -> tuple[dict[str, Any], dict[str, Array]]:
    assert process.stdout is not None
    frame = read_frame(process.stdout)
    if frame is None:
        raise ChildError(f"{package}: Node.js ended with status {process.wait()}{_last_line(log)}")
    return decode(frame)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


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
