"""The fenced blocks of README.md and docs/*.md, and what the comments before them say; see docs/contributing.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RUN = ("sh", "console", "python")
SHOWN = ("text", "yaml", "json", "xml")

_FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- ([^\n]*) -->\n\Z")
_MEANT = re.compile(r"not run: .+|run by \.ci/run|exit [1-9]\d*|file: [\w.]+")


@dataclass(frozen=True)
class Block:
    """A fenced block: `comment` is the text of the HTML comment directly before it, or ""."""

    page: Path
    line: int
    language: str
    text: str
    comment: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def problem(self) -> str:
        """Why this block is neither run nor left out for a reason, or ""."""
        if self.language.startswith("{"):
            return ""  # a directive of MyST
        if self.language not in (*RUN, *SHOWN):
            return f"language {self.language!r} is none of {', '.join((*RUN, *SHOWN))}"
        if self.comment and (self.language in SHOWN or not _MEANT.fullmatch(self.comment)):
            return f"the comment {self.comment!r} means nothing; see docs/contributing.md"
        if self.comment.startswith("file: ") and self.language != "python":
            return "only a python block can be a file"
        return ""

    @property
    def left_out(self) -> bool:
        """Whether the test of the blocks does not run it."""
        return self.language not in RUN or self.comment.startswith(("not run: ", "run by "))

    @property
    def file(self) -> str:
        """The name of the file that this block is the content of, or ""."""
        return self.comment.removeprefix("file: ") if self.comment.startswith("file: ") else ""

    @property
    def exit_code(self) -> int:
        return int(self.comment.removeprefix("exit ")) if self.comment.startswith("exit ") else 0


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        comment = _COMMENT.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"].strip(), match["text"], comment[1] if comment else ""))
    return found


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a `console` block and what each prints."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            assert found, f"output before the first command: {line!r}"
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?")
_UNIT = re.compile(r"\b0 (ms|s|kB|MB)\b")


def matches(expected: str, actual: str) -> bool:
    """Whether `actual` is what `expected` says, numbers, units and spaces aside; "…" stands for any text."""
    pattern = r".*".join(r"\s*" + re.escape(_normal(part)) + r"\s*" for part in expected.split("…"))
    return re.fullmatch(pattern, _normal(actual), re.DOTALL) is not None


def _normal(text: str) -> str:
    return _UNIT.sub("0 unit", _NUMBER.sub("0", " ".join(text.split())))
