"""Image files of every kind: what they become, what is refused, and with which words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from pictures import bomb, photograph

from converter.core.errors import InputError
from converter.data.preprocessing import Resize
from converter.data.reading import MAX_PIXELS, box_of, pixels_of, read_picture


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "YCbCr"])
def test_every_mode_becomes_rgb_or_gray(mode: str, tmp_path: Path) -> None:
    source = photograph().convert(mode)
    path = tmp_path / ("image.jpg" if mode in ("CMYK", "YCbCr") else "image.png")
    source.save(path)
    with Image.open(path) as opened:
        for channels, wanted in (("rgb", "RGB"), ("gray", "L")):
            found = read_picture(path, channels)  # type: ignore[arg-type]
            assert found.image.mode == wanted
            assert np.array_equal(np.asarray(found.image), np.asarray(opened.convert(wanted)))
            assert found.notes == ()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = read_picture(tmp_path / "deep.png", "gray")
    assert np.array_equal(np.asarray(found.image), values >> 8)
    assert found.notes == ("16 bits reduced to 8",)


def test_a_photograph_is_turned_as_it_was_taken(tmp_path: Path) -> None:
    source = photograph(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    source.save(tmp_path / "turned.png", exif=exif)
    found = read_picture(tmp_path / "turned.png", "rgb")
    assert found.image.size == (20, 30)
    assert np.array_equal(np.asarray(found.image), np.rot90(np.asarray(source), -1))
    assert found.notes == ("turned as its EXIF data say",)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [photograph(seed=seed).convert("P") for seed in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    found = read_picture(tmp_path / "moving.gif", "rgb")
    assert found.notes == ("the first of 3 frames",)
    assert np.array_equal(np.asarray(found.image), np.asarray(frames[0].convert("RGB")))


def text(path: Path) -> Path:
    path.write_text("this is not an image")
    return path


def truncated(path: Path) -> Path:
    photograph(200, 200).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-500])
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def floating(path: Path) -> Path:
    path = path.with_suffix(".tiff")
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a text file": (text, "not an image"),
    "an empty file": (empty, "not an image"),
    "a truncated JPEG": (truncated, "damaged or truncated"),
    "a decompression bomb": (bomb, f"more than {MAX_PIXELS:,} pixels"),
    "floating point": (floating, "mode F"),
    "nothing": (lambda path: path, "No such file"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    path = make(tmp_path / "image.jpg")
    with pytest.raises(InputError) as caught:
        read_picture(path, "rgb")
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (16, 30), (90, 70)])
def test_sizes(how: str, size: tuple[int, int], tmp_path: Path) -> None:
    for own in ((1, 1), (40, 60), (60, 40), (1, 50)):
        pixels = pixels_of(photograph(*own), size, Resize(how, fill=7))  # type: ignore[arg-type]
        assert pixels.shape == (*size, 3)
        assert pixels.dtype == np.uint8


def test_padding_keeps_the_proportions() -> None:
    pixels = pixels_of(photograph(20, 40), (32, 32), Resize("pad", fill=7))
    assert box_of((40, 20), (32, 32), "pad") == ((0, 0, 40, 20), (32, 16))
    assert (pixels[:8] == 7).all()
    assert (pixels[24:] == 7).all()
    assert not (pixels[8:24] == 7).all(axis=(1, 2)).any()


def test_pillow_averages_when_it_makes_smaller() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = pixels_of(Image.fromarray(stripes), (8, 8), Resize())
    assert abs(int(pixels[4, 4, 0]) - 128) < 8
