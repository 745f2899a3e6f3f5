"""Sixty models as a fleet on the cores of this machine, beside as many separate commands: seconds and digests.

    python tests/benchmarks/fleet_speed.py [--count 60] [--skip N] [--jobs 2] [--scheduler tcp://HOST:PORT]

The models are those of `tests/sweeps/architectures.py` at a small input; those of kimm and zeromodels are left out
where these packages are not installed. Each is exported and proven with four samples, the same way and into a directory
of its own by both. `--skip` leaves out the first ones, so that a long run can be taken in parts. Exit code 1 if a model
is not proven or a digest differs. With `--scheduler`, the fleet runs on a cluster that was started by hand, separate
exports that `--keep` kept are not made again, and the times do not compare like with like.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sweeps"))

from architectures import APPLICATIONS, KIMM, ZEROMODELS

from converter.bundle.manifest import files_of, read_manifest
from converter.core.files import digest_of

SWEEPS = sys.path[0]
SIZES = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
COMMAND = [sys.executable, "-m", "converter"]


def sources(place: Path) -> dict[str, list[str]]:
    """The arguments of `cnnexport` for each model by name; builders of packages are written to `place`/nets.py."""
    found = {}
    for name in APPLICATIONS:
        size = SIZES.get(name, 32)
        found[name] = [f"keras:{name}", "--input-shape", f"{size}x{size}x3", "--classes", "10"]
    lines = [f"import sys\n\nsys.path.insert(0, {SWEEPS!r})\nfrom architectures import _built\n"]
    for family, names in (("kimm", KIMM), ("zeromodels", ZEROMODELS)):
        if importlib.util.find_spec(family) is None:
            continue
        for name in names:
            function = "".join(letter if letter.isalnum() else "_" for letter in name)
            lines.append(f"\ndef {function}():\n    return _built({family!r}, {name!r})\n")
            found[function] = [f"nets.py:{function}"]
    (place / "nets.py").write_text("\n".join(lines))
    return found


def options_of(arguments: Sequence[str], formats: str) -> dict[str, object]:
    """The options of a model as its entry in a list has them."""
    pairs = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    found: dict[str, object] = {"source": arguments[0], "format": formats.split(","), "samples": 4}
    if pairs:
        found |= {"input-shape": pairs["--input-shape"], "classes": int(pairs["--classes"])}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--skip", type=int, default=0, metavar="N")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--formats", default="onnx")
    parser.add_argument("--scheduler", metavar="ADDRESS")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the artifacts there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-speed-") as temporary:
        place = (options.keep or Path(temporary)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        chosen = dict(list(sources(place).items())[options.skip : options.count])
        lines = []
        for name, arguments in chosen.items():
            values = {"name": name, **options_of(arguments, options.formats)}
            lines.append("[[model]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items()))
        (place / "list.toml").write_text("\n\n".join(lines) + "\n")
        command = [*COMMAND, "fleet", "list.toml", "--output", "fleet", "--quiet"]
        command += ["--scheduler", options.scheduler] if options.scheduler else ["--jobs", str(options.jobs)]
        together, code = timed(command, place)
        print(f"fleet of {len(chosen)}: {together:.0f} s, exit code {code}", flush=True)
        separate = 0.0
        for number, (name, arguments) in enumerate(chosen.items()):
            if options.scheduler and (place / "separate" / name / "manifest.json").exists():
                continue
            run = [*COMMAND, *arguments, "-o", f"separate/{name}", "-f", options.formats, "--samples", "4", "--quiet"]
            seconds, ended = timed(run, place)
            separate += seconds
            print(f"{number + 1:3} {name}: {seconds:.1f} s, exit code {ended}", flush=True)
        different = [name for name in chosen if digest(place / "fleet" / name) != digest(place / "separate" / name)]
        print(f"\n{len(chosen)} models, {options.formats}: fleet {together:.0f} s, separate commands {separate:.0f} s, "
              f"{separate / together:.2f} times; digests equal: {len(chosen) - len(different)}")  # fmt: skip
        print(f"different: {', '.join(different)}" if different else "")
    return 1 if different or code else 0


def timed(command: Sequence[str], place: Path) -> tuple[float, int]:
    """Seconds and exit code of a command."""
    environment = {**os.environ, "CNNEXPORT_CACHE": "off"}  # so that what runs second has no advantage
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return time.perf_counter() - started, done.returncode


def digest(directory: Path) -> str:
    """One hash over the artifacts of an export."""
    return digest_of(files_of(read_manifest(directory)))


if __name__ == "__main__":
    sys.exit(main())
