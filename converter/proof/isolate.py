"""Running one artifact in one runtime in a child process, and what to say when the child dies.

The child's side is `converter.proof.child`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from converter.core import errors
from converter.core.data import Array, Artifact, TensorSpec
from converter.core.jsonable import dumps

TIMEOUT = 900.0
"""Seconds that a child may take."""


def run_artifact(
    directory: Path,
    artifact: Artifact,
    runtime: str,
    device: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    timeout: float = TIMEOUT,
) -> tuple[dict[int, dict[str, Array]], dict[str, Any]]:
    """Run `artifact` of `directory` on the golden inputs beside it.

    Returns outputs by batch size and name, shape (samples, ...), and the child's facts. Raises ChildError where the
    child crashed or ran out of time, and whatever error of cnnexport the child met.
    """
    with tempfile.TemporaryDirectory(prefix="cnnexport-") as scratch:
        results = Path(scratch, "outputs.npz")
        job = {
            "directory": directory,
            "artifact": artifact,
            "runtime": runtime,
            "device": device,
            "inputs": list(inputs),
            "output_specs": list(outputs),
            "golden": directory / "golden.npz",
            "outputs": results,
        }
        answer = call("converter.proof.child", dumps(job), f"{runtime} on {artifact.path}", timeout)
        with np.load(results, allow_pickle=False) as arrays:
            by_batch: dict[int, dict[str, Array]] = {}
            for key in arrays.files:
                batch, _, name = key.partition("/")
                by_batch.setdefault(int(batch), {})[unquote(name)] = arrays[key]
    return by_batch, answer


def call(module: str, job: str, what: str, timeout: float = TIMEOUT) -> dict[str, Any]:
    """What `python -m module` answers to `job`, both JSON; errors, those of `run_artifact`, begin with `what`.

    The child imports nothing from the current directory, which may be the artifacts', and what it leaves among the
    temporary files goes away with it.
    """
    path = os.pathsep.join(filter(None, sys.path))
    with tempfile.TemporaryDirectory(prefix="cnnexport-", ignore_cleanup_errors=True) as place:
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), place)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", module],
                input=job.encode(),
                capture_output=True,
                timeout=timeout,
                env={**os.environ, **temporary, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise errors.ChildError(f"{what}: no answer after {timeout:.0f} s; its process was ended") from error
    if done.returncode != 0:
        raise errors.ChildError(f"{what}: its process {_fate(done.returncode)}{_last_line(done.stderr)}")
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise errors.ChildError(f"{what}: its process ended without an answer{_last_line(done.stderr)}") from error
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer


def _fate(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed ({name}{', probably out of memory' if name == 'SIGKILL' else ''})"
    return f"failed with status {code}"


def _last_line(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
