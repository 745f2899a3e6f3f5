"""The JSON Schemas of docs/schemas against files that an export wrote, and against the same with a fault in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
NAMES = ("manifest", "report")


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))


def problems(name: str, value: Any) -> list[str]:
    """What the schema `name` finds wrong in `value`."""
    return [error.message for error in jsonschema.Draft202012Validator(schema(name)).iter_errors(value)]


@pytest.fixture
def written(exported: Any) -> Callable[[str], Any]:
    """The content of manifest.json or report.json of an export, anew at each call."""
    return lambda name: json.loads((exported.directory / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_what_both_describe_is_described_alike() -> None:
    one, other = (schema(name)["$defs"] for name in NAMES)
    assert all(one[name] == other[name] for name in one.keys() & other.keys())


@pytest.mark.parametrize("name", NAMES)
def test_what_an_export_writes_is_valid(name: str, written: Callable[[str], Any]) -> None:
    assert problems(name, written(name)) == []


def test_a_failed_verification_is_valid(exported: Any) -> None:
    """With diagnoses, which a report that passed does not have."""
    import converter
    from converter.core.jsonable import plain
    from converter.report.table import to_json

    report = converter.verify(exported.directory, runtimes="onnxruntime,litert", tolerance=1e-9)
    value = json.loads(json.dumps(plain(to_json(report))))
    assert value["verdict"] == "fail"
    assert any(row["diagnosis"] and row["diagnosis"]["layers"] for row in value["rows"])
    assert problems("report", value) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_described_and_needed(name: str, written: Callable[[str], Any]) -> None:
    """At the top, and in rows, artifacts and controls: one more is refused, and so is one less."""
    value = written(name)
    assert set(value) == set(schema(name)["properties"])
    places = [lambda top: top, lambda top: top["artifacts"][0]]
    if name == "report":
        places += [lambda top: top["rows"][0], lambda top: top["rows"][0]["outputs"][0], lambda top: top["controls"][0]]
    for place in places:
        for key in place(value):
            missing = copy.deepcopy(value)
            del place(missing)[key]
            assert problems(name, missing), f"{key} is not required"
        unknown = copy.deepcopy(value)
        place(unknown)["something"] = 1
        assert problems(name, unknown)


WRONG: list[tuple[str, str, Any]] = [
    ("manifest", "schema", 2),
    ("manifest", "schema", "1"),
    ("manifest", "model", 3),
    ("manifest", "artifacts", []),
    ("manifest", "artifacts.0.format", "onnx2"),
    ("manifest", "artifacts.0.size", "large"),
    ("manifest", "artifacts.0.operators.Conv", -1),
    ("manifest", "artifacts.0.inputs.0.shape", "224x224x3"),
    ("manifest", "artifacts.0.inputs.0.layout", "NHWC"),
    ("manifest", "inputs.0.name", ""),
    ("manifest", "files.golden~npz.sha256", "0"),
    ("manifest", "files.golden~npz.size", 1.5),
    ("manifest", "tolerance.chosen", 0),
    ("manifest", "tolerance.outputs.main.value", None),
    ("manifest", "warnings", "none"),
    ("manifest", "source.untrained", "no"),
    ("manifest", "environment.versions.numpy", 2),
    ("manifest", "seed", True),
    ("report", "verdict", "passed"),
    ("report", "exit_code", 2),
    ("report", "rows", {}),
    ("report", "rows.0.passed", "yes"),
    ("report", "rows.0.device", "tpu"),
    ("report", "rows.0.outputs.0.relative_l2", "small"),
    ("report", "rows.0.outputs.0.flips", None),
    ("report", "rows.0.outputs.0.domain", "logits"),
    ("report", "rows.0.diagnosis", "unknown"),
    ("report", "controls.0.detected", 1),
    ("report", "separation.main", "far"),
    ("report", "timings.load", None),
    ("report", "reasons", None),
    ("report", "stages.0.errors.main", True),
]


@pytest.mark.parametrize(("name", "path", "wrong"), WRONG, ids=lambda value: str(value))
def test_a_wrong_value_is_refused(name: str, path: str, wrong: Any, written: Callable[[str], Any]) -> None:
    value = place = written(name)
    *parents, last = [part.replace("~", ".") for part in path.split(".")]
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert last in place
    place[last] = wrong
    assert problems(name, value)
