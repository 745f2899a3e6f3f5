"""The tables of coverage.md, made of coverage.json, which `tests/sweeps/coverage.py` writes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent / "coverage.json"
FORMATS = {"onnx": "ONNX", "tflite": "TFLite", "saved-model": "SavedModel"}
KINDS = {"layers": "classes of `keras.layers`", "ops": "functions of `keras.ops`"}
KINDS |= {"activations": "functions of `keras.activations`"}
PROVEN = "proven"

_PLACE = re.compile(r"^(?:[\w/]+ \([\w, ]+\)|ops|layers|x|image|the graph)(?:, [\w/]+ \([\w, ]+\))*: ")
_TEXT = re.compile(r"^input \w+ is text for .*, which")
_OUTPUT = re.compile(r"\boutput op_\w+:? ?")
_SPECIAL = re.compile(r"([\\`*_\[\]<>{}$#~|])")

Data = Mapping[str, Any]
Row = Mapping[str, str]


def data() -> Data:
    """What the sweep wrote."""
    found: Data = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def reason(cell: str) -> str:
    """The text of a cell that is not proven, without the names of layers and outputs of the model that was exported."""
    verdict, _, text = cell.partition(": ")
    text = _TEXT.sub("input is text, which", _PLACE.sub("", text))
    return f"{verdict}: {_OUTPUT.sub('', text).split(', so that')[0].strip()}"


def totals(rows: Mapping[str, Row]) -> dict[str, tuple[int, int]]:
    """By format: how many names are proven in all of their rows, of how many that Keras can call."""
    variants: dict[str, list[Row]] = defaultdict(list)
    for name, row in rows.items():
        if "keras" not in row:
            variants[name.split(":")[0]].append(row)
    each = {form: sum(all(row[form] == PROVEN for row in every) for every in variants.values()) for form in FORMATS}
    return {form: (count, len(variants)) for form, count in each.items()}


def counts() -> str:
    """How many names are proven in each format, and the versions that they were measured with."""
    found = data()
    lines = []
    for kind, words in KINDS.items():
        cells = [f"{count} ({100 * count / max(of, 1):.1f} %)" for count, of in totals(found[kind]).values()]
        lines.append((f"{next(iter(totals(found[kind]).values()))[1]} {words}", *cells))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{_table(('proven', *FORMATS.values()), lines)}\n\nMeasured with {versions}."


def reasons() -> str:
    """What is not proven: each reason with its count and its rows, the most frequent first, format by format."""
    found = data()
    where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind in KINDS:
        for name, row in found[kind].items():
            for form in FORMATS:
                if row.get(form, PROVEN) != PROVEN:
                    where[form, reason(row[form])].append(name)
    places = list(FORMATS)
    order = sorted(where.items(), key=lambda item: (places.index(item[0][0]), -len(item[1]), item[0][1]))
    return _table(
        ("format", "reason", "rows", "which"),
        ((FORMATS[form], text, str(len(names)), ", ".join(dict.fromkeys(names))) for (form, text), names in order),
    )


def rows(kind: str) -> str:
    """The rows of one kind."""
    lines = []
    for name, row in data()[kind].items():
        if "keras" not in row:
            cells = (row[form] if row[form] == PROVEN else reason(row[form]) for form in FORMATS)
            lines.append((name, *cells))
    return _table(("name", *FORMATS.values()), lines)


def not_called() -> str:
    """The functions that Keras itself cannot call in a model, with what it raises."""
    found = data()
    lines = [(name, row["keras"]) for kind in KINDS for name, row in found[kind].items() if "keras" in row]
    return _table(("name", "what Keras raises"), lines)


def left_out() -> str:
    """The names without rows, with their reasons."""
    every = data()["left_out"]
    return _table(("name", "reason"), ((name, text) for kind in KINDS for name, text in every[kind].items()))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain text; what stands between two backticks stays."""
    body = (["".join(_plain(cell)) for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def _plain(cell: str) -> Iterable[str]:
    for place, piece in enumerate(re.split(r"(`[\w.]+`)", " ".join(cell.split()))):
        yield piece if place % 2 else _SPECIAL.sub(r"\\\1", piece)
