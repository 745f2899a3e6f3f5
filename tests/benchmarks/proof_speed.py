"""How long whole commands take, proof included, as multiples of the time that Keras needs to build ResNet-50.

    python tests/benchmarks/proof_speed.py [--repeat N] [--json FILE] [--only TEXT] [--tree DIR]

Every command runs in a new process, with TensorFlow's import; the fastest of N runs counts, because other load only
adds. "build" is `python -c "import zoo; zoo.MODELS['resnet50'].build()"`, the peer of the first rows, in the same run.
"Keras exports" is a process that builds the same model and calls `model.export` three times: the peer of three formats
with their proof. Memory is the largest resident set of the process, or of one of its children. `--tree` runs another
checkout of cnnexport, for a comparison of two versions in one session. The cache of calibrations is empty at first: the
first command that exports a model of the zoo fills it, so that of N runs only the first one measures. Linux and macOS
only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(__file__).with_name("proof_speed_models.py")
KERAS = """
import os, sys, tempfile, zoo
model = zoo.MODELS[sys.argv[1]].build()
with tempfile.TemporaryDirectory() as place:
    for form, name in (("tf_saved_model", "saved"), ("onnx", "model.onnx"), ("litert", "model.tflite")):
        model.export(os.path.join(place, name), format=form, verbose=False)
"""
_TO_BYTES = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


@dataclass(frozen=True)
class Work:
    """A command of the table; `goal` is the number that its seconds, or its ratio to the peer, should not exceed."""

    name: str
    command: tuple[str, ...]
    peer: str = ""
    goal: str = ""
    exits: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Measured:
    """The fastest run of a command."""

    name: str
    seconds: float
    memory: int
    ratio: float | None
    goal: str


def works(place: Path) -> Iterator[Work]:
    run = (sys.executable, "-m", "converter")
    three = ("--format", "onnx,tflite,saved-model", "--quiet")
    unproven = (0, 9)  # an untrained network may be inconclusive; the work is the same
    yield Work("build", (sys.executable, "-c", "import zoo; zoo.MODELS['resnet50'].build()"))
    yield Work("Keras exports, resnet50", (sys.executable, "-c", KERAS, "resnet50"))
    resnet = (*run, "resnet50", "--format", "onnx", "--quiet", "-o", str(place / "onnx"))
    yield Work("resnet50, ONNX", resnet, "build", "2 x")
    yield Work("verify of it", (*run, "verify", str(place / "onnx"), "--quiet"), "build", "0.33 x")
    all_three = (*run, "resnet50", *three, "-o", str(place / "three"))
    yield Work("resnet50, three formats", all_three, "Keras exports, resnet50", "0.25 x")
    for name, goal in (("unet", "3.3 x"), ("heavy_unet", "6.8 x")):
        command = (*run, f"{MODELS}:{name}", *three, "-o", str(place / name))
        yield Work(f"{name}, three formats", command, "build", goal, unproven)
    vgg16 = (*run, "vgg16", *three, "-o", str(place / "vgg16"))
    yield Work("vgg16, three formats", vgg16, "build", "4.1 x, 2.5 GB")
    maps = (*run, f"{MODELS}:three_maps", *three, "-o", str(place / "maps"))
    yield Work("three maps of 240x320x21", maps, "build", "", unproven)


def timed(work: Work, tree: Path) -> tuple[float, int]:
    """Seconds, and bytes of the largest process."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    child = subprocess.Popen(work.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=tree)
    output, _ = child.communicate()
    seconds = time.perf_counter() - started
    if child.returncode not in work.exits:
        sys.exit(f"{work.name}: exit {child.returncode}\n{output.decode(errors='replace')[-2000:]}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _TO_BYTES


def measured(tree: Path, repeat: int, only: str) -> Iterator[Measured]:
    """Each command in a process of its own for the memory: RUSAGE_CHILDREN never falls."""
    known: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="proof-speed-") as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        for work in works(Path(scratch)):
            peer = only in work.name or work.name in ("build", "Keras exports, resnet50")
            if only and not peer and not (work.name == "resnet50, ONNX" and "verify" in only):
                continue
            runs = []
            for _ in range(repeat):
                reader, writer = os.pipe()
                pid = os.fork()
                if not pid:
                    os.write(writer, json.dumps(timed(work, tree)).encode())
                    os._exit(0)
                os.close(writer)
                with os.fdopen(reader) as stream:
                    answer = stream.read()
                os.waitpid(pid, 0)
                if not answer:
                    sys.exit(1)
                runs.append(json.loads(answer))
            seconds, memory = min(run[0] for run in runs), max(run[1] for run in runs)
            known[work.name] = seconds
            ratio = seconds / known[work.peer] if work.peer else None
            yield Measured(work.name, seconds, memory, ratio, work.goal)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each command")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="the commands whose name contains TEXT, and the peers"
    )
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="DIR", help="another checkout of cnnexport")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    rows = []
    for row in measured(options.tree.resolve(), options.repeat, options.only):
        rows.append(row)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        print(f"{row.name:28} {row.seconds:6.1f} s  {row.memory / 1e9:4.1f} GB  {ratio:>7}  {row.goal}", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
