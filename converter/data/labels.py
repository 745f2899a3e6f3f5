"""The names of classes: from a file, and the 1,000 of ImageNet.

`imagenet.txt` has a line for each class in the order of all published weights: the WordNet id and the first name of the
synset. Ids and names are those of WordNet 3.0 as listed in timm 1.0.31 (Apache-2.0), files `imagenet_synsets.txt` and
`imagenet_synset_to_lemma.txt`; the two names that stand for two classes each are made different in brackets.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from converter.core.errors import InputError, UsageError
from converter.core.foreign import Json
from converter.core.jsonable import read_json

IMAGENET = "imagenet"
MAX_BYTES, MAX_LABELS, MAX_LENGTH = 16 << 20, 100_000, 500


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 names of ImageNet's classes, in the order of the published weights."""
    text = Path(__file__).with_name("imagenet.txt").read_text(encoding="utf-8")
    return tuple(line.split(" ", 1)[1] for line in text.splitlines())


def read_labels(text: str) -> tuple[str, ...]:
    """The labels that `--labels TEXT` means: "imagenet", a text file with a label a line, or a JSON file.

    JSON may be a list of names, an object from index to name, or Keras's `imagenet_class_index.json`. Raises InputError
    where the file is missing or has no labels, an empty one, or one twice.
    """
    if text == IMAGENET:
        return imagenet_labels()
    path = Path(text)
    if path.suffix.lower() == ".json":
        found = _from_json(read_json(path, MAX_BYTES, "a list of labels"), str(path))
    else:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MB, so it is not a list of labels")
            found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}\ncheck the path") from error
        except ValueError as error:
            raise InputError(f"{path}: not text in UTF-8\nwrite one label a line") from error
        while found and not found[-1]:
            found.pop()
    return checked(found, str(path))


def checked(labels: list[str], where: str) -> tuple[str, ...]:
    """`labels` if they can be the names of classes. Raises InputError, which starts with `where`."""
    if not labels:
        raise InputError(f"{where}: no labels\nwrite one label a line")
    if len(labels) > MAX_LABELS:
        raise InputError(f"{where}: {len(labels):,} labels, more than {MAX_LABELS:,}")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels):
        if not label or len(label) > MAX_LENGTH or "\n" in label:
            raise InputError(f"{where}: label {number + 1} is empty, longer than {MAX_LENGTH}, or has several lines")
        if label in seen:
            raise InputError(f"{where}: label {label[:80]!r} stands for classes {seen[label]} and {number}")
        seen[label] = number
    return tuple(labels)


def require_count(labels: tuple[str, ...], classes: int, where: str) -> None:
    """Raise UsageError unless there is one label for each of `classes`."""
    if labels and len(labels) != classes:
        fewer = "fewer" if len(labels) < classes else "more"
        raise UsageError(
            f"{where}: {len(labels):,} labels, {fewer} than the model's {classes:,} classes\ngive one for each class"
        )


def _from_json(value: Json, where: str) -> list[str]:
    if isinstance(value, dict):
        if any(not key.isdigit() for key in value) or sorted(map(int, value)) != list(range(len(value))):
            raise InputError(f"{where}: its keys are not 0, 1, 2, …\nwrite a list of names")
        value = [value[str(number)] for number in range(len(value))]
    if isinstance(value, list) and all(isinstance(each, list) and len(each) == 2 for each in value):
        names = [each[1] for each in value]  # Keras: [WordNet id, name], and two names occur twice
        value = [f"{each[1]} ({each[0]})" if names.count(each[1]) > 1 else each[1] for each in value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{where}: not a list of names\nwrite {json.dumps(['cat', 'dog'])}")
    return list(value)
