"""Shared by the tests of the runtimes: where the npm packages are, a second export, and a run of one artifact.

Every runtime really runs. Tests of those that pip cannot install have the marker `external`; the default run leaves
them out. Where they run, a missing Node.js or Chromium fails the test, and the message says what to install.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converter.core.data import Arrays, Artifact, Golden
from converter.core.foreign import Facts
from converter.core.results import OutputResult

ROOT = Path(__file__).parents[2]
EXTERNAL = {"onnxruntime-node", "onnxruntime-web", "chromium"}  # what pip cannot install


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the runs of a runtime that needs Node.js or Chromium as external."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("name") in EXTERNAL:
            item.add_marker(pytest.mark.external)


@pytest.fixture(autouse=True)
def _node_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The npm packages of the checkout, for every directory that a test runs in."""
    monkeypatch.setenv("CNNEXPORT_NODE_MODULES", os.environ.get("CNNEXPORT_NODE_MODULES", str(ROOT / "node_modules")))


@pytest.fixture(scope="session")
def exported_nchw(tmp_path_factory: pytest.TempPathFactory, nets: Path) -> Path:
    """tiny_nets:two_heads as ONNX with channels first and a batch fixed at 3."""
    import converter
    from converter.core.data import WriteOptions

    directory = tmp_path_factory.mktemp("exported") / "nchw"
    options = converter.ExportOptions(("onnx",), directory, WriteOptions(batch=3, layout="nchw"))
    converter.export("tiny_nets:two_heads", options)
    return directory


@pytest.fixture(scope="session")
def run_in() -> Callable[..., tuple[list[OutputResult], Facts]]:
    """Run a directory's artifact of a format in a child process: the results of every batch, and the child's answer.

    `change` may alter the Artifact in the child's job.
    """
    from converter import bundle
    from converter.core.jsonable import plain
    from converter.proof.comparison import compare_outputs
    from converter.proof.isolate import run_artifact
    from converter.proof.protocol import Subject, samples_at
    from converter.proof.tolerance import tolerances
    from converter.runtimes import RUNTIMES

    def first(golden: Golden, batch: int, several: int) -> Arrays:
        count = samples_at(batch, golden.samples) if several > 1 else golden.samples
        return {name: array[:count] for name, array in golden.references.items()}

    def run(
        directory: Path, runtime: str, form: str = "onnx", change: Callable[[Artifact], Artifact] = replace
    ) -> tuple[list[OutputResult], Facts]:
        assert RUNTIMES[runtime].unavailable("cpu") is None
        manifest = bundle.read_manifest(directory)
        golden = bundle.read_golden(directory / "golden.npz", manifest.interface)
        artifact = next(each for each in manifest.artifacts if each.format == form)
        subject = Subject(directory, change(artifact), manifest.interface, runtime, "cpu")
        done = run_artifact(subject, (1, 3, golden.samples))
        ran = done.read()
        specs = manifest.interface.by_output
        bounds = tolerances(golden, specs)
        results = [
            result
            for batch, outputs in ran.by_batch.items()
            for result in compare_outputs(first(golden, batch, len(ran.by_batch)), outputs, specs, bounds)
        ]
        return results, plain(done.answer)

    return run
