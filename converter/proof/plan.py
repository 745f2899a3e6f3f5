"""Decides which artifacts to run in which runtimes on which devices, and checks the request before anything runs.

`converter.proof.prove` carries the plan out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from converter.core.data import Artifact
from converter.core.errors import InputError, UnavailableError, UsageError
from converter.core.limits import Limits
from converter.runtimes import DEVICES, ON_GPU, RUNTIMES, SERVER, TENSORRT
from converter.runtimes.run_server import check_address, served_format

ALL = "all"
"""As a runtime name: every runtime that reads an artifact; one that cannot run is reported and is not an error."""


@dataclass(frozen=True)
class ProofOptions:
    """Options of a proof.

    Without `runtimes`, each format is run in the first runtime that reads it; it must be available unless `every` is
    False. With "all" among them, each format is run in every runtime that reads it. `device` "cuda" adds rows with TF32
    off and on, and one with TensorRT if it is installed. `tolerance` replaces the tolerance derived from the measured
    noise. `limits` are those of each child process. `server` is the address of a model in a server, which is one more
    row.
    """

    runtimes: Sequence[str] = ()
    device: str = "cpu"
    tolerance: float | None = None
    every: bool = True
    limits: Limits = field(default_factory=Limits)
    server: str = ""


@dataclass(frozen=True)
class Run:
    """One artifact in one runtime on one device; an `optional` run may turn out to be impossible."""

    artifact: Artifact
    runtime: str
    device: str
    optional: bool = False


def check_runtimes(names: Iterable[str], device: str, server: str = "") -> None:
    """Raise UsageError for an unknown runtime or device, UnavailableError for one that cannot run here.

    "all" requires no particular runtime. A `server` must be the address of a model; `plan` asks whether it answers.
    """
    if server:
        check_address(server)
    if device not in DEVICES:
        raise UsageError(f"--device {device}: choose from {', '.join(DEVICES)}")
    for name in names:
        if name not in RUNTIMES and name != ALL:
            raise UsageError(f"--runtime {name}: no such runtime\nchoose from {', '.join(RUNTIMES)}, or {ALL}")
        if name != ALL:
            _require(name, "cpu")
    if device != "cpu":
        able = [name for name, runtime in RUNTIMES.items() if device in runtime.devices]
        for name in able:
            _require(name, device)


def plan(artifacts: Sequence[Artifact], options: ProofOptions) -> tuple[list[Run], list[str]]:
    """The runs, and a sentence for each unavailable runtime that was left out because no option names it."""
    names, found, left_out = options.runtimes, [], []
    for artifact in artifacts:
        able = [name for name, runtime in RUNTIMES.items() if artifact.format in runtime.reads]
        if not able:  # an artifact that is left out would count as proven
            raise InputError(f"{artifact.path}: no runtime reads the format {artifact.format!r}; upgrade cnnexport")
        wanted = able if ALL in names else [each for each in names if each in able] if names else able[:1]
        for name in wanted:
            swept = ALL in names and name not in names
            unnamed = swept or not (names or options.every)
            reason = RUNTIMES[name].unavailable("cpu") if unnamed else None
            if reason:
                left_out.append(skipped(artifact, name, reason))
                continue
            _require(name, "cpu")
            found.append(Run(artifact, name, "cpu", optional=swept and name != able[0]))
        for name, where in itertools.product(able, on_gpu(artifact) if options.device == "cuda" else ()):
            if where not in RUNTIMES[name].devices:
                continue
            reason = RUNTIMES[name].unavailable(where) if where == TENSORRT else None
            if reason:
                left_out.append(skipped(artifact, f"{name} on {where}", reason))
            else:
                found.append(Run(artifact, name, where, optional=where == TENSORRT))
    formats = sorted({artifact.format for artifact in artifacts})
    idle = [name for name in names if name != ALL and not set(formats) & set(RUNTIMES[name].reads)]
    if idle:
        raise UsageError(
            f"--runtime {', '.join(idle)}: cannot read the formats of this directory: {', '.join(formats)}"
        )
    if options.server:
        found.append(Run(_served(artifacts, options.server), SERVER, options.server))
    if not found:
        raise UnavailableError(f"no runtime for {', '.join(formats)} is available\n{'; '.join(left_out)[:300]}")
    return found, left_out


def _served(artifacts: Sequence[Artifact], address: str) -> Artifact:
    """The artifact that the server at `address` runs: of the format that it names, in float32 if there are several."""
    form = served_format(address)
    able = [each for each in artifacts if form in (None, each.format)]
    if not able:
        raise UsageError(f"--server {address}: runs {form}, of which this directory has no file")
    return next((each for each in able if each.precision == "float32"), able[0])


def on_gpu(artifact: Artifact) -> tuple[str, ...]:
    """The ways to run an artifact on a GPU: other precisions than float32 have no TF32, and int8 no kernels there."""
    return {"float32": ON_GPU, "float16": ON_GPU[:1]}.get(artifact.precision, ())


def first_runtimes(form: str) -> list[str]:
    """The runtime that an export of the format `form` is proven in; empty if nothing reads the format."""
    return [name for name, runtime in RUNTIMES.items() if form in runtime.reads][:1]


def skipped(artifact: Artifact, runtime: str, reason: object) -> str:
    return f"{artifact.format} in {runtime}: not run: {' '.join(str(reason).split())}"


def _require(name: str, device: str) -> None:
    reason = RUNTIMES[name].unavailable(device)
    if reason:
        raise UnavailableError(f"{name} on {device}: {reason}")
