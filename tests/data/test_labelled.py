"""Folders of images, labels, and the parts that a set of images is divided into."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pictures import classes, photograph

from converter.core.errors import InputError, UnavailableError, UsageError
from converter.data.about import About, beside, from_entries, read_beside, text_entries, write_beside
from converter.data.fingerprint import digests_of, fingerprint
from converter.data.labels import imagenet_labels, read_labels, require_count
from converter.data.samples import find_images, load_samples, match_labels, read_folder
from converter.data.split import split


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", ("dog", "cat", "ant"), 2)
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / ".hidden.png").write_text("no image")
    (root / "cat" / "deep").mkdir()
    photograph().save(root / "cat" / "deep" / "x.JPG", "JPEG")
    found = read_folder(root)
    assert found.classes == ("ant", "cat", "dog")
    assert found.names == (
        "ant/0.png",
        "ant/1.png",
        "cat/0.png",
        "cat/1.png",
        "cat/deep/x.JPG",
        "dog/0.png",
        "dog/1.png",
    )
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert (
        found.pixels(0, "rgb", None, __import__("converter.data.preprocessing", fromlist=["Resize"]).Resize()).ndim == 3
    )


def test_what_is_no_data(tmp_path: Path) -> None:
    cases = {"empty": (), "one": ("cat",), "parts": ("train", "test")}
    for name, folders in cases.items():
        classes(tmp_path / name, folders) if folders else (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    classes(tmp_path / "hollow")
    (tmp_path / "hollow" / "owl").mkdir()
    (tmp_path / "flat").mkdir()
    photograph().save(tmp_path / "flat" / "a.png")
    words = {
        "empty": "no image in a class folder", "one": "one class only, cat", "parts": "are parts, not classes",
        "file": "a file", "hollow": "class owl has no image", "flat": "1 images lie in it", "nowhere": "no such folder",
    }  # fmt: skip
    for name, text in words.items():
        with pytest.raises(InputError, match=text):
            load_samples(str(tmp_path / name))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    found = read_folder(classes(tmp_path / "pets"))
    (tmp_path / "pets" / "cat" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png: No such file"):
        digests_of(found)


def test_images_by_file_folder_and_pattern(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", count=2)
    assert len(find_images([str(root)])) == 4
    assert len(find_images([str(root / "cat" / "*.png"), str(root / "cat" / "0.png")])) == 2
    (root / "odd.dat").write_text("")
    assert find_images([str(root / "odd.dat")]) == [root / "odd.dat"]
    for missing in (str(root / "*.gif"), str(root / "nothing.png")):
        with pytest.raises(InputError, match="no such image"):
            find_images([missing])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in this folder"):
        find_images([str(tmp_path / "empty")])


def test_folders_are_paired_with_labels_by_name(tmp_path: Path) -> None:
    found = read_folder(classes(tmp_path / "pets", ("Dog", "cat"), 1))
    assert found.classes == ("Dog", "cat")
    assert match_labels(found, ("cat", "cow", "dog")).tolist() == [2, 0]
    assert match_labels(found, ()).tolist() == [0, 1]
    with pytest.raises(UsageError, match="class 'Dog' is not a label"):
        match_labels(found, ("cat", "cow"))


def test_the_labels_of_imagenet() -> None:
    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert labels[:2] == ("tench", "goldfish")
    assert (labels[134], labels[281], labels[517], labels[999]) == (
        "crane (bird)",
        "tabby",
        "crane (machine)",
        "toilet tissue",
    )


def test_labels_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat\ndog \n\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(["cat", "dog"]))
    (tmp_path / "b.json").write_text(json.dumps({"1": "dog", "0": "cat"}))
    (tmp_path / "c.json").write_text(json.dumps({"0": ["n1", "cat"], "1": ["n2", "dog"]}))
    (tmp_path / "d.json").write_text(json.dumps({"0": ["n1", "crane"], "1": ["n2", "crane"]}))
    for name in ("a.txt", "a.json", "b.json", "c.json"):
        assert read_labels(str(tmp_path / name)) == ("cat", "dog")
    assert read_labels(str(tmp_path / "d.json")) == ("crane (n1)", "crane (n2)")
    assert read_labels("imagenet") == imagenet_labels()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "no labels"),
        ("a.txt", b"cat\n\ndog\n", "label 2 is empty"),
        ("a.txt", b"cat\ncat\n", "stands for classes 0 and 1"),
        ("a.txt", b"\xff\xfe\x00", "not text in UTF-8"),
        ("a.json", b"{}", "no labels"),
        ("a.json", b'{"0": "a", "2": "b"}', "keys are not 0, 1, 2"),
        ("a.json", b"[1, 2]", "not a list of names"),
        ("missing.txt", None, "No such file"),
    ],
)
def test_labels_that_are_refused(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_labels(str(tmp_path / name))


def test_a_label_for_each_class() -> None:
    require_count((), 3, "here")
    with pytest.raises(UsageError, match="2 labels, fewer than the model's 3 classes"):
        require_count(("a", "b"), 3, "here")


def test_parts_are_disjoint_and_repeatable() -> None:
    labels = np.repeat(np.arange(3), 20)
    digests = [str(index) for index in range(60)]
    one, two = (split(labels, digests, seed=4) for _ in range(2))
    parts = [one.train, one.validation, one.test]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    assert all(np.array_equal(one.part(name), two.part(name)) for name in ("train", "validation", "test"))
    assert not np.array_equal(one.test, split(labels, digests, seed=5).test)


def test_equal_images_stay_in_one_part() -> None:
    labels = np.repeat(np.arange(2), 30)
    digests = [f"{index % 10}{label}" for index, label in zip(range(60), labels, strict=True)]
    digests[59] = digests[0]  # the same image in two classes
    found = split(labels, digests)
    seen = [{digests[index] for index in found.part(name)} for name in ("train", "validation", "test")]
    assert not (seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2])


def test_shares_and_classes_that_cannot_be_divided() -> None:
    labels, digests = np.repeat(np.arange(2), 10), [str(index) for index in range(20)]
    for validation, test in ((0.0, 0.1), (0.5, 0.5), (-0.1, 0.1)):
        with pytest.raises(UsageError, match="shares above 0"):
            split(labels, digests, validation=validation, test=test)
    with pytest.raises(UsageError, match="too few for three parts"):
        split(np.array([0, 0, 0, 1, 1]), ["a", "b", "c", "d", "d"])


@pytest.mark.parametrize(("name", "count", "size"), [("mnist", 5000, 28), ("digits", 1797, 8)])
def test_the_sets_that_are_built_in(name: str, count: int, size: int) -> None:
    found = load_samples(name)
    assert len(found) == count
    assert found.classes == tuple("0123456789")
    picture = found.read(3, "gray").image
    assert picture.size == (size, size)
    assert np.asarray(picture).max() > 200
    digests = digests_of(found)
    assert fingerprint(found, digests) == fingerprint(load_samples(name), digests)


def test_a_set_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UnavailableError, match=r"cnnexport\[data\]"):
        load_samples("digits")


def test_what_belongs_to_a_model_survives(tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes(b"weights")
    about = About({"mode": "tf", "channels": "rgb"}, ("a", "b"), {"seed": 3})
    write_beside(model, about)
    sha256 = json.loads(beside(model).read_text())["sha256"]
    assert read_beside(model, sha256) == about
    assert read_beside(model, "0" * 64) is None
    assert read_beside(tmp_path / "other.keras", sha256) is None
    entries = text_entries({"preprocessing": about.preprocessing, "labels": about.labels}, {"inputs": []})
    found, interface = from_entries(entries, "here")
    assert (found.preprocessing, found.labels, interface) == (about.preprocessing, about.labels, {"inputs": []})


@pytest.mark.parametrize(
    "entries", [{"cnnexport.labels": "{"}, {"cnnexport.labels": "[1]"}, {"cnnexport.preprocessing": "[]"}]
)
def test_damaged_metadata(entries: dict[str, str]) -> None:
    with pytest.raises(InputError, match="export the model again"):
        from_entries(entries, "here")
