"""Calibration samples: what is read, how it is divided, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converter.core.data import Interface, TensorSpec
from converter.core.errors import InputError
from converter.data.fingerprint import overlap
from converter.quantize.calibration import faint, noise_calibration, read_calibration

IMAGE = TensorSpec("image", (None, 4, 4, 1))
FLAG = TensorSpec("flag", (None, 2))
ONE, TWO = Interface((IMAGE,), (IMAGE,)), Interface((IMAGE, FLAG), (IMAGE,))
RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 4, 4, 1), np.float32)
FLAGS = RNG.random((40, 2), np.float32)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_samples_that_prove_do_not_calibrate(tmp_path: Path) -> None:
    found = read_calibration(saved(tmp_path / "c.npz", image=IMAGES, label=np.zeros(40)), ONE)
    assert len(found.calibrating["image"]) == 30
    assert len(found.proving["image"]) == 10
    one, other = ({each.tobytes() for each in side["image"]} for side in (found.calibrating, found.proving))
    assert not one & other
    assert len(found.hashes) == 30
    assert found.facts("minmax")["samples"] == 30
    assert overlap(found.hashes, {"image": IMAGES}) == 30
    assert overlap(found.hashes, found.proving) == 0


def test_a_sample_that_occurs_twice_is_on_one_side(tmp_path: Path) -> None:
    doubled = np.concatenate([IMAGES[:20], IMAGES[:20]])
    found = read_calibration(saved(tmp_path / "c.npz", image=doubled), ONE)
    assert len(found.calibrating["image"]) + len(found.proving["image"]) == 20


def test_the_fewest_samples_still_prove_with_two(tmp_path: Path) -> None:
    found = read_calibration(saved(tmp_path / "c.npz", image=IMAGES[:8]), ONE)
    assert (len(found.calibrating["image"]), len(found.proving["image"])) == (6, 2)


def test_integers_become_the_type_of_the_input(tmp_path: Path) -> None:
    found = read_calibration(saved(tmp_path / "c.npz", image=(IMAGES * 255).astype(np.uint8)), ONE)
    assert found.calibrating["image"].dtype == np.float32


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    for index, image in enumerate(IMAGES[:9]):
        np.save(tmp_path / f"{index}.npy", image)
    np.savez(tmp_path / "more.npz", image=IMAGES[9:12])
    (tmp_path / "notes.txt").write_text("not read")
    found = read_calibration(tmp_path, ONE)
    assert len(found.calibrating["image"]) + len(found.proving["image"]) == 12


def test_two_inputs_are_paired(tmp_path: Path) -> None:
    found = read_calibration(saved(tmp_path / "c.npz", image=IMAGES, flag=FLAGS), TWO)
    first = next(index for index, image in enumerate(IMAGES) if np.array_equal(image, found.proving["image"][0]))
    assert np.array_equal(found.proving["flag"][0], FLAGS[first])


NAN = IMAGES.copy()
NAN[3, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": NAN}, "contains NaN or Inf"),
        ({"image": IMAGES[:, :3]}, "expected numbers, samples x 4x4x1"),
        ({"image": IMAGES.astype(str)}, "expected numbers"),
        ({"image": IMAGES[:7]}, "has 7 samples; at least 8"),
        ({"image": np.repeat(IMAGES[:2], 10, 0)}, "has 20 samples, 2 of them different; at least 8"),
        ({"image": IMAGES, "flag": FLAGS[:20]}, "different numbers of samples: image 40, flag 20"),
        ({"picture": IMAGES, "flag": FLAGS}, "has picture, flag, but no array image"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    interface = TWO if "flag" in arrays else ONE
    with pytest.raises(InputError, match=words):
        read_calibration(saved(tmp_path / "c.npz", **arrays), interface)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    np.save(tmp_path / "mixed" / "a.npy", IMAGES[0])
    for name, words in (
        ("bad.npz", r"not a readable \.npz file"),
        ("text.txt", r"expected an \.npz file or a folder"),
        ("missing", "no such file"),
        ("empty", r"has no \.npz and no \.npy file"),
    ):
        with pytest.raises(InputError, match=words):
            read_calibration(tmp_path / name, ONE)
    with pytest.raises(InputError, match=r"the model has 2 inputs; give \.npz files"):
        read_calibration(tmp_path / "mixed", TWO)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, image=np.array([{"a": 1}] * 9, dtype=object))
    with pytest.raises(InputError, match="not a readable"):
        read_calibration(pickled, ONE)


def test_noise_is_seeded_and_faint_noise_has_no_contrast() -> None:
    one, other = (noise_calibration(ONE, 3, {"image": IMAGES}) for _ in range(2))
    assert one.source == "noise"
    assert np.array_equal(one.calibrating["image"], other.calibrating["image"])
    assert faint(one)["image"].std() < 0.2 * one.calibrating["image"].std()


def test_a_truncated_file_is_refused_for_the_proof_too(tmp_path: Path) -> None:
    from converter.pipeline.inputs import from_file

    whole = saved(tmp_path / "c.npz", image=IMAGES).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-100])
    for read in (lambda path: read_calibration(path, ONE), lambda path: from_file(path, ONE.inputs)):
        with pytest.raises(InputError, match="not a readable"):
            read(tmp_path / "cut.npz")
