"""Verify the zoo's artifacts in every available runtime, and print the errors as multiples of the noise.

    python tests/sweeps/zoo_runtimes.py                        all models of the zoo, in artifacts/
    python tests/sweeps/zoo_runtimes.py resnet18 alexnet --artifacts DIR --json rows.json

A model without a directory there is exported first, by `cnnexport NAME`. Each directory is then proven by
`cnnexport verify DIR --runtime all`, each step in a new process. Rows that are already in `--json FILE` are not
measured again. A cell is the worst output's relative L2 divided by the noise, which is the relative L2 between Keras in
float32 and in float64; it is a dash where a runtime is missing or refuses the model, with the reason below the table.
Exit code 1 if a proof did not pass.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from converter.core.foreign import JsonObject

COMMAND = [sys.executable, "-m", "converter"]


def measure(name: str, root: Path) -> JsonObject:
    """The verdict and the multiples of one model, by "format in runtime"."""
    directory = root / name
    started = time.perf_counter()
    if not (directory / "manifest.json").is_file():
        subprocess.run([*COMMAND, name, "--output", str(directory), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    command = [*COMMAND, "verify", str(directory), "--runtime", "all", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"{name}: exit {done.returncode}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    return {
        "model": name,
        "verdict": report["verdict"],
        "noise": max(each["noise"] or 0.0 for each in report["tolerances"].values()),
        "multiples": {
            f"{row['subject']} in {row['runtime']}": max(each["multiple"] or 0.0 for each in row["outputs"])
            for row in report["rows"]
        },
        "controls": [
            sum(each["detected"] for each in report["controls"]),
            sum(each["applicable"] for each in report["controls"]),
        ],
        "missing": [each.replace(f"{root}/", "") for each in report["warnings"] if ": not run: " in each],
        "versions": {row["runtime"]: row["facts"].get(row["runtime"]) for row in report["rows"]},
        "seconds": time.perf_counter() - started,
    }


def table(rows: Sequence[JsonObject]) -> str:
    """The rows as Markdown: a line for each format in each runtime, a column for each model."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["multiples"]))
    kinds.sort(key=lambda kind: ("keras", "onnx", "tflite", "saved-model").index(kind.split(" ")[0]))
    lines = [
        f"| x noise | {' | '.join(row['model'] for row in rows)} |",
        f"|---|{'--:|' * len(rows)}",
        f"| *noise* | {' | '.join(f'''{row['noise']:.1e}''' for row in rows)} |",
    ]
    for kind in kinds:
        cells = [f"{row['multiples'][kind]:.1f}" if kind in row["multiples"] else "-" for row in rows]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    controls = [f"{row['controls'][0]} of {row['controls'][1]}" for row in rows]
    lines.append(f"| *controls detected* | {' | '.join(controls)} |")
    lines.append(f"| *verdict* | {' | '.join(row['verdict'] for row in rows)} |")
    notes = [f"- {row['model']}: {each}" for row in rows for each in row["missing"]]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def main() -> int:
    from zoo import MODELS

    parser = argparse.ArgumentParser(description="The zoo in every runtime; errors as multiples of the noise.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these models of the zoo")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where the directories are")
    parser.add_argument("--json", type=Path, help="keep the rows there, and use those it has")
    options = parser.parse_args()
    names = options.names or list(MODELS)
    unknown = sorted(set(names) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    rows = {row["model"]: row for row in json.loads(options.json.read_text())} if _exists(options.json) else {}
    for name in names:
        if name not in rows:
            rows[name] = measure(name, options.artifacts)
            print(f"{name}: {rows[name]['verdict']}, {rows[name]['seconds']:.0f} s", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(list(rows.values()), indent=1))
    print(table([rows[name] for name in names]))
    return 0 if all(rows[name]["verdict"] == "pass" for name in names) else 1


def _exists(path: Path | None) -> bool:
    return path is not None and path.is_file()


if __name__ == "__main__":
    sys.exit(main())
