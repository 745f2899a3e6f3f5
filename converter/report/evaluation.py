"""An evaluation as a section of report.html, and as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.core.foreign import Facts
from converter.core.text import clean
from converter.report.table import size_text

if TYPE_CHECKING:  # numpy is loaded with it
    from converter.prediction.evaluation import Evaluation, Row

TEMPLATES = Path(__file__).with_name("templates")
BEGIN, END = "<!-- evaluation -->", "<!-- end of evaluation -->"
MOST_CLASSES = 30
"""Classes in the picture of a confusion matrix: those with the most errors"""
CELL, MARGIN = 18, 110
NAME = 60


@dataclass(frozen=True)
class Cell:
    """A square of a confusion matrix: place, how dark it is (0 to 1), the count, and whether it is an error."""

    x: int
    y: int
    shade: float
    count: int
    wrong: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix as a picture; `left_out` is how many classes are not shown."""

    title: str
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    size: int
    left_out: int


def with_section(page: str, evaluation: Evaluation) -> str:
    """`page`, the report of an export, with the section of `evaluation`, which replaces an earlier one."""
    text = f"{BEGIN}\n{section(evaluation)}{END}\n"
    bare = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}\n", "", page, flags=re.DOTALL)
    head, found, tail = bare.rpartition("</main>")
    return f"{head}{text}{found}{tail}" if found else bare


def section(evaluation: Evaluation) -> str:
    """The section as HTML: only classes of the report's own style sheet, no script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"clean": lambda text: clean(str(text), NAME), "size": lambda size: size_text(size) or "-"}
    page = environment.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        lines=[line(each) for each in evaluation.rows],
        flips=[(title(each), each.flips, each.flipped) for each in evaluation.rows if each.flips],
        matrices=[matrix(each, evaluation.classes) for each in evaluation.rows],
        cell=CELL,
        margin=MARGIN,
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def title(row: Row) -> str:
    """The artifact, the runtime, and the output."""
    where = "" if row.runtime == row.subject else f" in {row.runtime}"
    return f"{clean(row.subject, NAME)}{where}, {clean(row.output, NAME)}"


def line(row: Row) -> Facts:
    """The texts of a row of the table."""
    found = row.paired
    drop = answer = ""
    if found is not None:
        drop = f"{100 * found.drop:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"
        answer = found.answer
        if found.needed is not None:
            answer += f", about {found.needed:,} would do"
    return {
        "title": title(row),
        "precision": row.precision,
        "top1": f"{100 * row.top1:.2f} %",
        "top5": f"{100 * row.top5:.2f} %",
        "agreement": "" if row.agreement is None else f"{100 * row.agreement:.2f} %",
        "flipped": "" if row.agreement is None else str(row.flipped),
        "difference": "" if row.largest_difference is None else f"{row.largest_difference:.1e}",
        "drop": drop,
        "answer": answer,
        "time": "" if row.seconds is None else f"{1e3 * row.seconds:.2f} ms",
        "size": size_text(row.size),
        "good": found is None or found.answer == "within",
    }


def matrix(row: Row, labels: Sequence[str]) -> Matrix:
    """The confusion matrix of `row`, true classes down, predicted ones across."""
    table = row.confusion
    names = [labels[index] if index < len(labels) else str(index) for index in range(len(table))]
    errors = [
        sum(table[index]) + sum(other[index] for other in table) - 2 * table[index][index]
        for index in range(len(table))
    ]
    used = [index for index in range(len(table)) if sum(table[index]) or any(other[index] for other in table)]
    shown = sorted(sorted(used, key=lambda index: -errors[index])[:MOST_CLASSES])
    return Matrix(
        title(row),
        tuple(clean(names[index], 14) for index in shown),
        tuple(_cells(table, shown)),
        MARGIN + CELL * len(shown) + 10,
        len(table) - len(shown),
    )


def _cells(table: Sequence[Sequence[int]], shown: Sequence[int]) -> Iterator[Cell]:
    for down, true in enumerate(shown):
        total = sum(table[true]) or 1
        for across, predicted in enumerate(shown):
            count = table[true][predicted]
            if count:
                shade = round(0.15 + 0.85 * count / total, 3)
                yield Cell(MARGIN + CELL * across, MARGIN + CELL * down, shade, count, down != across)
