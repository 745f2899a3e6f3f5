"""The pytest plugin of cnnexport: the fixture `assert_exports`, its options and its marker.

A test calls `assert_exports(model, formats="onnx")`. It fails if an artifact does not compute what Keras computes, and
names the layer where the difference begins. With `--cnnexport-update` the reports become baselines, with which later
runs are compared. The converter is imported when a test uses the fixture, not before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from converter.core.results import Report
    from converter.pipeline.options import ModelOrPath

SLOW = "cnnexport_slow"
BASELINES = "cnnexport-baselines"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup("cnnexport")
    group.addoption("--cnnexport-update", action="store_true", help="write the baselines of assert_exports anew")
    group.addoption("--cnnexport-slow", action="store_true", help=f"also run tests that are marked {SLOW}")
    parser.addini("cnnexport_baselines", f"directory of the baselines, from the root directory [{BASELINES}]",
                  default=BASELINES)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{SLOW}: an export that takes long (run with --cnnexport-slow)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked as slow, unless it was asked for."""
    if config.getoption("--cnnexport-slow"):
        return
    for item in items:
        if item.get_closest_marker(SLOW):
            item.add_marker(pytest.mark.skip(reason="slow: run with --cnnexport-slow"))


@pytest.fixture
def assert_exports(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Report]:
    """`assert_exports(model, formats=None, **keywords)`: export, prove, compare with the baseline; returns the report.

    `model` and the keywords are those of `cnnexport.export`. The test fails with the reasons, which name the layer. The
    baseline of the first call is `<baselines>/<test>.json`, of the second `<test>-2.json`.
    """
    folder = request.config.rootpath / str(request.config.getini("cnnexport_baselines"))
    update = bool(request.config.getoption("--cnnexport-update"))
    title = re.sub(r"[^A-Za-z0-9._-]+", "-", request.node.nodeid).strip("-")
    calls = 0

    def check(model: ModelOrPath, formats: str | Iterable[str] | None = None, **keywords: Any) -> Report:
        nonlocal calls
        calls += 1
        from converter.core.errors import CnnExportError
        from converter.pipeline.export import export

        path = folder / f"{title}{'' if calls == 1 else f'-{calls}'}.json"
        given = {"output": tmp_path / f"cnnexport-{calls}", **keywords}
        if formats is not None:
            given["formats"] = formats
        if path.is_file() and not update:
            given.setdefault("baseline", path)
        try:
            report = export(model, **given)
        except CnnExportError as error:
            pytest.fail(f"cnnexport: {error}", pytrace=False)
        if report.exit_code:
            pytest.fail(failure_text(report), pytrace=False)
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((Path(report.directory) / "report.json").read_bytes())
        return report

    return check


def failure_text(report: Report) -> str:
    """What the failed test says: the verdict, every reason, and the first wrong layer of each artifact."""
    lines = [f"{report.model}: {report.verdict}", *report.reasons, *report.failures]
    for row in report.rows:
        if row.diagnosis is not None and not any(row.diagnosis.text in line for line in lines):
            lines.append(f"{row.subject} in {row.runtime}: {row.diagnosis.text}")
    return "\n".join(lines)
