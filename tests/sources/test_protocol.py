"""What passes between the inspecting process and its parent arrives as it was sent, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.core.errors import InputError, UnsafeError
from converter.sources.inspection.protocol import Answer, Request, read_answer, read_request, to_text


def test_a_request_arrives_as_it_was_sent() -> None:
    request = Request(Path("/a/model.keras"), Path("/tmp/x"), ("Scale",), trust=True, weights_only=True, seconds=8)
    assert read_request(to_text(request)) == request


def test_an_answer_arrives_as_it_was_sent_with_its_keys_in_order() -> None:
    config = {"class_name": "Sequential", "config": {"b": 1, "a": [None, 2.5]}}
    answer = Answer("hdf5", None, Path("/a/w.h5"), 24, True, config, ("one", "two"), {"a_b": "a/b"})
    again = read_answer(to_text(answer))
    assert again == answer
    assert isinstance(again, Answer)
    assert json.dumps(again.config) == json.dumps(config)


def test_an_error_arrives_as_the_same_class_and_text() -> None:
    error = read_answer(to_text(UnsafeError("layer a: runs code\nrefused")))
    assert type(error) is UnsafeError
    assert str(error) == "layer a: runs code\nrefused"


@pytest.mark.parametrize("name", ["SystemExit", "Path", "__name__", ""])
def test_an_error_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an error of cnnexport"):
        read_answer(json.dumps({"error": name, "message": "x"}))


@pytest.mark.parametrize("change", [{"weights": 1}, {"config": []}, {"weight_bytes": "24"}, {"renamed": None}])
def test_an_answer_with_a_wrong_type_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(to_text(Answer("keras", "3.15.1", Path("w.h5"), 24)))
    with pytest.raises(InputError, match=next(iter(change))):
        read_answer(json.dumps(fields | change))
