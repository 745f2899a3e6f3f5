"""The results over all models: JSON, JUnit and the page; names of models are text in all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from converter.core.errors import ChildError, InconclusiveError
from converter.fleets.pages import to_html, to_junit, write_pages
from converter.fleets.rows import change_of
from converter.fleets.tasks import FleetReport, FleetRow

EVIL = "<script>alert(1)</script>"


def comparison(error: float | None, passed: bool = True) -> dict[str, object]:
    facts = {"subject": "onnx", "runtime": "onnxruntime", "device": "cpu", "precision": "float32"}
    return {**facts, "seconds": 0.1, "passed": passed, "error": error}


def report(count: int = 3) -> FleetReport:
    rows = [
        FleetRow(
            f"net{number:02}", f"net{number}.keras", "export", "k", "proven", 0, seconds=60.0 - number,
            memory=number << 20, comparisons=(comparison(1e-7 * (1 + number * 7 % 60)),),
            artifacts=({"format": "onnx", "size": 1000 * number},), change="new",
        )
        for number in range(count)
    ]  # fmt: skip
    failed = FleetRow(EVIL, EVIL, "export", "k", "failed", 1, f"onnx: {EVIL}", comparisons=(comparison(0.5, False),))
    crashed = FleetRow("crash", "crash", "export", "k", "failed", 8, "killed")
    kept = FleetRow("kept", "kept", "export", "k", "unchanged", 0, change="error 1.0e-07 to 1.0e-06")
    return FleetReport((*rows, failed, crashed, kept), "out", 12.0)


def test_exit_code_and_counts() -> None:
    found = report()
    assert (found.exit_code, len(found.failed)) == (1, 2)
    assert found.summary == "6 models: 3 proven, 1 unchanged, 2 failed"
    with pytest.raises(ChildError, match="1 models"):
        FleetReport(found.failed[1:], "out").raise_for_failures()
    assert FleetReport((), "out").exit_code == 9
    with pytest.raises(InconclusiveError):
        FleetReport((), "out").raise_for_failures()
    FleetReport(found.rows[:1], "out").raise_for_failures()


def test_files(tmp_path: Path) -> None:
    write_pages(report(), tmp_path)
    value = json.loads((tmp_path / "fleet.json").read_text())
    assert value["exit_code"] == 1
    assert len(value["rows"]) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet.html", "fleet.json", "fleet.xml"]


def test_junit() -> None:
    suite = ET.fromstring(to_junit(report()))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "6",
        "1",
        "1",
        "1",
    )
    kinds = [[child.tag for child in case] for case in suite]
    assert kinds == [[], [], [], ["failure"], ["error"], ["skipped"]]


def test_the_page_needs_no_network_and_names_are_text() -> None:
    page = to_html(report())
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.findall(r"(?:src|href)=|https?://|url\(", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert "default-src" in policy[1]
    assert "unsafe" not in policy[1]
    assert "onnx onnxruntime" in page


def test_changes() -> None:
    now = {"exit_code": 0, "comparisons": [comparison(1e-6)], "artifacts": [{"size": 5}]}
    assert change_of({}, now) == "new"
    assert change_of(now, now) == ""
    assert change_of({**now, "exit_code": 1}, now) == "failed before"
    assert change_of(now, {**now, "exit_code": 6}) == "fails now"
    assert change_of({**now, "comparisons": [comparison(1e-7)]}, now) == "error 1.0e-07 to 1.0e-06"
    assert change_of({**now, "artifacts": [{"size": 4}]}, now) == "size 4 to 5 bytes"


@pytest.mark.external
def test_the_page_sorts_filters_and_prints_in_chromium(tmp_path: Path) -> None:
    """A second script clicks and reads; under the policy of the page, which does not know its hash, it does not run."""
    chromium = shutil.which("chromium")
    assert chromium
    page = to_html(report(60))
    (tmp_path / "page.html").write_text(page)
    trial = """<script>
{
const names = () => [...document.getElementById("models").tBodies[0].rows].filter((row) => !row.hidden)
  .map((row) => row.cells[0].textContent);
const heads = [...document.getElementById("models").tHead.rows[0].cells];
const seconds = heads.findIndex((head) => head.textContent === "seconds");
heads[seconds].querySelector("button").click(); const up = names();
heads[seconds].querySelector("button").click(); const down = names();
const status = document.getElementById("status"); status.value = "failed"; status.dispatchEvent(new Event("change"));
document.title = JSON.stringify([up[3], down[0], names().length, document.getElementById("shown").textContent]);
}
</script></body>"""
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", trial)
    (tmp_path / "trial.html").write_text(open_page)
    (tmp_path / "closed.html").write_text(page.replace("</body>", trial))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu"]

    def title(name: str) -> str:
        done = subprocess.run(
            [*command, "--dump-dom", f"file://{tmp_path}/{name}"], capture_output=True, text=True, check=True
        )
        found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
        assert found
        return found[1].replace("&quot;", '"')

    up, down, shown, text = json.loads(title("trial.html"))
    assert (up, down, shown, text) == ("net59", "net00", 2, "2 of 63 models")
    assert title("closed.html").startswith("fleet:")
    pdf = tmp_path / "page.pdf"
    subprocess.run([*command, f"--print-to-pdf={pdf}", f"file://{tmp_path}/page.html"], capture_output=True, check=True)
    assert pdf.read_bytes().startswith(b"%PDF")
