"""An ONNX file loaded by onnxruntime in a JavaScript process: what Node.js and the browser have in common.

The process answers frames: first one that describes the session, then one of outputs for each frame of inputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Protocol

from converter.core.data import Array, Arrays, Artifact, Prepared
from converter.core.errors import InputError
from converter.core.foreign import Facts, JsonObject
from converter.core.text import first_line, last_line
from converter.runtimes.javascript.frames import encode
from converter.runtimes.javascript.packages import package_version
from converter.runtimes.shared.installed import cpu_name
from converter.runtimes.shared.names import require_interface

_TAIL = 4000  # bytes at the end of a log in which its last line is searched


class Process(Protocol):
    """A running JavaScript process that loads one artifact; `name` is what errors call it."""

    @property
    def name(self) -> str: ...

    def send(self, frame: bytes) -> None:
        """Send inputs. Raises ChildError where the process has ended."""

    def answer(self) -> tuple[JsonObject, dict[str, Array]]:
        """Wait for the header and the arrays of the next answer. Raises ChildError where none comes."""

    def close(self) -> None:
        """End the process; may be called again."""


def prepared(process: Process, package: str, path: Path, artifact: Artifact) -> Prepared:
    """The session of the npm package `package` in `process`, whose names are paired with those of `artifact`.

    `facts` get "run_seconds", the duration of the last call as measured in JavaScript, without the transfer. Raises
    InputError where onnxruntime refuses the file or a name differs, ChildError where the process ends or does not
    answer.
    """
    header, _ = process.answer()
    if "error" in header:
        raise InputError(f"{path}: {process.name} cannot load it: {first_line(header['error'])}")
    require_interface(path, artifact, header["inputs"], header["outputs"])
    outputs = [spec.name for spec in artifact.outputs]
    facts: Facts = {package: package_version(package), **header["facts"], "device_name": cpu_name()}

    def run(inputs: Arrays) -> dict[str, Array]:
        process.send(encode(inputs))
        answer, arrays = process.answer()
        if "error" in answer:
            process.close()
            raise InputError(f"{path}: {process.name} cannot run it: {first_line(answer['error'])}")
        facts["run_seconds"] = answer["milliseconds"] / 1e3
        return {name: arrays[name] for name in outputs}

    return Prepared(run, facts)


def last_words(log: IO[bytes]) -> str:
    """ ": " and the last line in the log of a process that ended, or "" if the log is empty."""
    log.seek(0)
    line = last_line(log.read()[-_TAIL:].decode(errors="replace"))
    return f": {line}" if line else ""
