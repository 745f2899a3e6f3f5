"""Latency of our files beside those of Keras's `model.export` and of the tf2onnx command, for models of the zoo.

    python tests/benchmarks/peers_latency.py [NAME ...] [--seconds S] [--memory-limit GB] [--json FILE]

Each file is written in a process of its own from the zoo's model NAME, seed 0, Keras's initial weights; tf2onnx
converts the SavedModel that Keras wrote. A writer above the memory limit or 15 minutes is stopped. Then `cnnexport
bench` measures the ONNX files in onnxruntime and OpenVINO, and the TFLite files in LiteRT, interleaved, with its
control of a file against itself: "ratio" is the peer's median over ours, so above 1 ours is faster. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from export_child import FILES, Job
from export_speed import GIGABYTE, ROOT, Limits, in_child, limited

from converter.bench.describe import describe
from converter.core.errors import InputError

if TYPE_CHECKING:
    from converter.core.foreign import JsonObject

NAMES = ("resnext50", "resnet50", "resnet18", "alexnet", "vgg16", "googlenet", "xception")
RUNTIMES = {"onnx": ("onnxruntime", "openvino"), "tflite": ("litert",)}
PEERS = {"onnx": ("keras", "tf2onnx"), "tflite": ("keras",)}
LONGEST = 900  # seconds


def written(name: str, tool: str, form: str, directory: Path, limits: Limits) -> Path | str:
    """The file that `tool` writes of the model `name`, or why it wrote none."""
    place = directory / f"{name}-{tool}-{form}"
    place.mkdir()
    path = place / FILES[form]
    if tool == "tf2onnx":
        source = written(name, "keras", "saved-model", directory, limits)
        if isinstance(source, str):
            return source
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(source), "--output", str(path)]
        ended = limited([*command, "--opset", "17"], place, limits)
    else:
        ended = in_child(Job("export", name, tool, (form,), str(place)), limits)
    if "failure" in ended:
        return str(ended["failure"])[:100]
    if not path.exists():
        return "it wrote no file"
    if tool != "ours" and form in PEERS:
        try:
            describe(path, form)
        except InputError:
            return f"{RUNTIMES[form][0]} refuses the file"
    return path


def measured(ours: Path, peers: list[Path], form: str, seconds: float) -> JsonObject:
    """The report of `cnnexport bench`, and its exit code as `exit`."""
    against = [text for path in peers for text in ("--against", str(path))]
    runtimes = ["--runtime", ",".join(RUNTIMES[form])]
    command = [sys.executable, "-m", "converter", "bench", ours, *against, *runtimes, "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, "--batch", "1", "--json", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(done.stderr)
    report: JsonObject = json.loads(done.stdout)
    return {**report, "exit": done.returncode}


def lines(name: str, form: str, directory: Path, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The rows of the table for one model in one format."""
    limits = Limits(options.memory_limit * GIGABYTE, LONGEST)
    ours = written(name, "ours", form, directory, limits)
    if isinstance(ours, str):
        raise SystemExit(f"{name} {form}: {ours}")
    found = {peer: written(name, peer, form, directory, limits) for peer in PEERS[form]}
    report = measured(ours, [path for path in found.values() if isinstance(path, Path)], form, options.seconds)
    options.reports[f"{name} {form}"] = report
    own = f"{ours.parent.name}/{ours.name}"
    for runtime in RUNTIMES[form]:
        rows = {row["file"]: row for row in report["rows"] if row["runtime"] == runtime}
        median = rows[own]["latency"]["1"]["median"]["value"]
        for peer, path in found.items():
            start = (name, f"{form} in {runtime}", f"{1e3 * median:.2f} ms", peer)
            if isinstance(path, str):
                yield (*start, "-", path)
                continue
            file = f"{path.parent.name}/{path.name}"
            if rows[file]["error"]:
                yield (*start, "-", rows[file]["error"][:80])
                continue
            (one,) = [each for each in report["comparisons"] if {each["file"], each["base"]} == {own, file}
                      and each["runtime"] == runtime]  # fmt: skip
            yield (*start, *_ratio(one, own))


def _ratio(one: JsonObject, own: str) -> tuple[str, str]:
    low, value, high = one["ratio"]["low"], one["ratio"]["value"], one["ratio"]["high"]
    answer = one["answer"]
    ours = one["file"] == own  # how many times as long ours takes
    low, value, high = (1 / high, 1 / value, 1 / low) if ours else (low, value, high)
    told = {"faster": ("ours slower", "ours faster"), "slower": ("ours faster", "ours slower")}
    return f"{value:.2f} ({low:.2f} to {high:.2f})", told[answer][ours] if answer in told else answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--memory-limit", type=float, default=18.0, metavar="GB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.reports = {}
    print(
        "| model | in | ours, median | beside | ratio, 95 % interval | shown |\n|---|---|--:|---|---|---|", flush=True
    )
    for name in options.names:
        for form in PEERS:
            with tempfile.TemporaryDirectory() as directory:
                for line in lines(name, form, Path(directory), options):
                    print("|", " | ".join(line), "|", flush=True)
    if options.json:
        options.json.write_text(json.dumps(options.reports, indent=1))


if __name__ == "__main__":
    main()
