"""Verdicts of common checks beside cnnexport's: each is applied to wrong artifacts and to correct ones.

    pip install --target peers polygraphy
    PYTHONPATH=peers python tests/benchmarks/verdicts.py [--markdown] [--json FILE] [--work DIR] [--only TEXT]
                                                         [--device cuda]

The wrong ones are exported ONNX files with one fault planted in each (`faults.py`, `graph_faults.py`,
`size_faults.py`), which changes what the model computes, for all inputs or for some batches or sizes; their hashes are
entered into the manifest, so that they reach the comparison. In a few the export itself is wrong: what is traced
differs from what Keras predicts. The correct ones are unchanged exports: other architectures, opsets, layouts, batch
sizes, types, runtimes, and small models with one property each that makes a check doubt them, for example samples that
differ by 1e-5.

Every check gets the same data: the seeded inputs of the export, Keras's outputs for them, and the outputs of the
artifact, run in the named runtime as one batch. Its settings are the same in every row:

    allclose 1e-3    numpy.allclose(artifact, keras, atol=1e-3), rtol numpy's default of 1e-5
    allclose 1e-5    numpy.allclose(artifact, keras, atol=1e-5), likewise
    rtol 1e-3        numpy.allclose(artifact, keras, rtol=1e-3, atol=1e-5), as in PyTorch's tutorial on ONNX
    Polygraphy       Comparator.compare_accuracy with its defaults: no element beyond both atol 1e-5 and rtol 1e-5
    cnnexport        converter.verify of the directory: "fail" is caught, and anything but "pass" is a rejection

A check that cannot compare the outputs, because a name is missing, a shape differs, or the file does not run, has
not accepted the artifact. An export that raises an error is a rejection, and its fault is missed; the other checks then
have nothing to compare ("-"). Only cnnexport runs the artifact at other batch sizes than that of the seeded inputs.

The large models have their usual number of classes and seeded, calibrated weights, with which samples differ; that
helps every check, since with Keras's initial weights the softmax hides most differences. "trained" is a small network
that has learnt its task. "x noise" is cnnexport's largest relative L2 divided by Keras's own rounding ("-": not
measured), "max |d|" the largest difference from Keras in any output: of probabilities, except for logits, features and
others without a final activation.

TensorFlow exports every model once, in one process; `--work DIR` keeps these exports and uses those that it has. With
`--device cuda` cnnexport's verdict includes the rows of CUDA; with kept exports, only cases of the runtime TensorFlow
need that package.
Exit code 1 if cnnexport missed a fault or rejected a correct artifact. Polygraphy is not a dependency of cnnexport.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import verdict_models
from verdict_cases import CORRECT, FAULTS, Case
from verdict_models import exported, failure_of

from converter.core.data import Arrays

Check = Callable[[Arrays, Arrays], bool]
"""Whether an artifact is accepted, from its outputs and Keras's, by name"""

ROOT = Path(__file__).resolve().parents[2]
OURS = "cnnexport"
PACKAGES = ("numpy", "polygraphy", "keras", "tensorflow", "onnx", "onnxruntime-gpu", "onnxruntime", "openvino",
            "opencv-python-headless", "tract", "ai-edge-litert")  # fmt: skip
INSTALL = """polygraphy is not installed, and must not be a dependency. To install it without changing anything else:
  pip install --target peers polygraphy
  PYTHONPATH=peers python tests/benchmarks/verdicts.py"""


def close(**tolerances: float) -> Check:
    def check(actual: Arrays, reference: Arrays) -> bool:
        return all(np.allclose(actual[name], array, **tolerances) for name, array in reference.items())

    return check


def polygraphy(actual: Arrays, reference: Arrays) -> bool:
    from polygraphy.comparator import Comparator, IterationResult, RunResults
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    results = RunResults()
    for runner, arrays in (("artifact", actual), ("keras", reference)):
        results.append((runner, [IterationResult(dict(arrays), runner_name=runner)]))
    return bool(Comparator.compare_accuracy(results))


def accepts(check: Check, actual: Arrays | None, reference: Arrays) -> bool:
    """Whether `check` accepts outputs; False if there are none, and if it cannot compare them."""
    try:
        return actual is not None and check(actual, reference)
    except Exception:  # noqa: BLE001 - whatever the library raises
        return False


PEERS: dict[str, Check] = {
    "allclose 1e-3": close(atol=1e-3),
    "allclose 1e-5": close(atol=1e-5),
    "rtol 1e-3": close(rtol=1e-3, atol=1e-5),
    "Polygraphy": polygraphy,
}


@dataclass(frozen=True)
class Row:
    """The result of every check for one artifact, None for those of a base that could not be exported.

    `multiple` is the worst output's relative L2 divided by the noise, `largest` the largest difference (None: the
    outputs have another shape), `verdict` that of cnnexport, or "error" if it raised one.
    """

    model: str
    text: str
    runtime: str
    faulty: bool
    verdict: str
    reasons: tuple[str, ...]
    accepted: Mapping[str, bool | None]
    multiple: float | None = None
    largest: float | None = None

    def right(self, check: str) -> bool | None:
        """Whether `check` is right; a fault for which cnnexport is inconclusive is not caught."""
        if check == OURS:
            return self.verdict == ("fail" if self.faulty else "pass")
        accepted = self.accepted[check]
        return None if accepted is None else accepted is not self.faulty


def checked(case: Case, work: Path, device: str) -> Row:
    """Plant the fault in a copy, if there is one, run the artifact, and apply every check."""
    from converter import verify
    from converter.bundle import read_golden, read_manifest
    from converter.bundle.manifest import GOLDEN
    from converter.core.errors import CnnExportError
    from converter.proof.isolate import run_artifact
    from converter.proof.protocol import Subject
    from converter.runtimes import RUNTIMES

    kind = RUNTIMES[case.runtime].reads[0]
    missing = not_exported(case, work, kind)
    if missing:
        return Row(case.base, case.text, case.runtime, case.faulty, "error", (missing,), dict.fromkeys(PEERS))
    actual: Arrays | None = None
    multiple, verdict = None, ""
    why: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="verdicts-") as scratch:
        directory = planted(case, work, Path(scratch)) if case.planted else exported(work, case.base)
        manifest = read_manifest(directory)
        golden = read_golden(directory / GOLDEN, manifest.interface)
        (artifact,) = [each for each in manifest.artifacts if each.format == kind]
        with contextlib.suppress(CnnExportError):  # `verify` raises it too
            subject = Subject(directory, artifact, manifest.interface, case.runtime, "cpu")
            actual = run_artifact(subject, (golden.samples,)).read().largest
        try:
            report = verify(directory, runtimes=(case.runtime,), device=device if kind == "onnx" else "cpu")
        except CnnExportError as error:
            verdict, why = "error", (f"{type(error).__name__}: {error}",)
        else:
            verdict, why = report.verdict, report.reasons
            results = [each for row in report.rows if row.subject == kind for each in row.outputs]
            multiple = max((each.multiple for each in results if each.multiple is not None), default=None)
    count = min((len(array) for array in (actual or {}).values()), default=0)
    reference = {name: array[:count] for name, array in golden.references.items()}
    return Row(
        model=case.base,
        text=case.text,
        runtime=case.runtime,
        faulty=case.faulty,
        verdict=verdict,
        reasons=why,
        accepted={name: accepts(check, actual, reference) for name, check in PEERS.items()},
        multiple=multiple,
        largest=largest_difference(actual, reference),
    )


def not_exported(case: Case, work: Path, kind: str) -> str:
    """Why there is no file of the format `kind` to check, or ""."""
    from converter.bundle import read_manifest

    for name in filter(None, (case.base, case.file_of)):
        failure = failure_of(work, name)
        if failure.exists():
            return f"{name} was not exported: {failure.read_text()}"
        if all(each.format != kind for each in read_manifest(exported(work, name)).artifacts):
            return f"{name} was exported without a file of the format {kind}"
    return ""


def largest_difference(actual: Arrays | None, reference: Arrays) -> float | None:
    """The largest difference in any output; None if one of them is missing or has another shape."""
    if actual is None or any(name not in actual or actual[name].shape != reference[name].shape for name in reference):
        return None
    gaps = (actual[name].astype(np.float64) - reference[name].astype(np.float64) for name in reference)
    return max(float(np.abs(gap).max(initial=0.0)) for gap in gaps)


def planted(case: Case, work: Path, scratch: Path) -> Path:
    """A copy of the export in `scratch` with the fault in its ONNX file and the file's hash in its manifest."""
    import onnx

    directory = Path(shutil.copytree(exported(work, case.base), scratch / case.base))
    path = directory / "model.onnx"
    if case.file_of:
        shutil.copyfile(exported(work, case.file_of) / path.name, path)
    if case.change:
        model = onnx.load(str(path))
        case.change(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
    content = path.read_bytes()
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"][path.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def rows_of_table(rows: Sequence[Row], checks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    words = {(True, True): "caught", (True, False): "missed", (False, True): "accepted", (False, False): "rejected"}
    faulty = rows[0].faulty
    where = () if faulty else ("runtime",)
    yield ("", "model", "what is wrong" if faulty else "artifact", *where, "x noise", "max |d|", *checks)
    for number, row in enumerate(rows, start=1):
        multiple = "-" if row.multiple is None else f"{row.multiple:,.1f}"
        right = [row.right(check) for check in checks]
        verdicts = ["-" if each is None else words[faulty, each] for each in right]
        largest = "-" if row.largest is None else f"{row.largest:.1e}"
        place = () if faulty else (row.runtime,)
        yield (str(number), row.model, row.text, *place, multiple, largest, *verdicts)


def summary(rows: Sequence[Row], checks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    wrong, correct = [row for row in rows if row.faulty], [row for row in rows if not row.faulty]
    yield "check", "wrong artifacts caught", "correct artifacts rejected"
    for check in checks:
        caught, passed = ([each for row in part if (each := row.right(check)) is not None] for part in (wrong, correct))
        yield check, f"{sum(caught)} of {len(caught)}", f"{len(passed) - sum(passed)} of {len(passed)}"


def table(cells: Sequence[tuple[str, ...]], markdown: bool) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    between, edge = (" | ", ("| ", " |")) if markdown else ("  ", ("", ""))
    lines = [
        edge[0] + between.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + edge[1]
        for line in cells
    ]
    lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]) if markdown else "")
    return "\n".join(line.rstrip() for line in lines if line or not markdown)


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def run(work: Path, cases: Sequence[Case], device: str) -> list[Row]:
    """Export what is missing, then check every case; progress goes to standard error."""
    log = work / "export.log"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    bases = dict.fromkeys(name for case in cases for name in (case.base, case.file_of) if name)
    absent = [name for name in bases if not exported(work, name).exists()]
    if absent:
        with log.open("w") as stream:
            command = [sys.executable, verdict_models.__file__, str(work), *absent]
            done = subprocess.run(command, stdout=sys.stderr, stderr=stream, env=environment, check=False)
        if done.returncode:
            sys.exit(log.read_text()[-2000:])
    rows = []
    for case in cases:
        row = checked(case, work, device)
        wrong = "" if row.right(OURS) else f", WRONG: {'; '.join(row.reasons)}"
        print(f"{case.base}, {case.text}, {case.runtime}: {row.verdict}{wrong}", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every row, and the versions, to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the exports there, and use those it has")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: also onnxruntime on a GPU")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases with TEXT in their model or text")
    options = parser.parse_args()
    cases = [case for case in (*FAULTS, *CORRECT) if options.only in f"{case.base}, {case.text}"]
    if not cases:
        parser.error(f"--only {options.only}: no case has this text")
    if find_spec("polygraphy") is None:
        parser.exit(5, INSTALL + "\n")
    with tempfile.TemporaryDirectory(prefix="verdicts-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        rows = run(work, cases, options.device)
    checks = (*PEERS, OURS)
    for part in filter(None, ([row for row in rows if row.faulty], [row for row in rows if not row.faulty])):
        print(table(list(rows_of_table(part, checks)), options.markdown), end="\n\n")
    print(table(list(summary(rows, checks)), options.markdown), end="\n\n")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    if options.json:
        options.json.write_text(json.dumps({"versions": versions(), "rows": [asdict(row) for row in rows]}, indent=1))
    return 0 if all(row.right(OURS) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
