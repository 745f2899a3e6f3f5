"""Image files to pixels, with Pillow: what is refused, what is converted, and how an image gets its size.

An image is converted as `keras.utils.load_img` converts it: RGB, or gray. What that function leaves open is decided
here and noted: the orientation in a photograph's EXIF data is applied, 16 bits become 8, and of several frames the
first is taken. Files are untrusted: only common formats are tried, and the size is checked before pixels are decoded.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from converter.core.errors import InputError
from converter.core.text import one_line
from converter.data.preprocessing import Channels, How, Pixels, Preprocessing, Resize, Values

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 128_000_000
"""Of one image: 384 MB as RGB. More is taken for a decompression bomb."""
MAX_FILE = 512 << 20
_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error,
    MemoryError, AttributeError,
)  # fmt: skip
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class Picture:
    """A decoded image in its own size, and a note for each conversion that changes what is seen."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def read_picture(path: Path, channels: Channels) -> Picture:
    """The image in the file `path`, as RGB or, for "gray", as one channel.

    Raises InputError where the file is missing, no image, truncated, of floating point pixels, or too large.
    """
    return decode(read_bytes(path), str(path), channels)


def read_bytes(path: Path) -> bytes:
    """The content of an image file. Raises InputError where it cannot be read or is too large for an image."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"{path}: larger than {MAX_FILE >> 20} MB, which no image needs\ngive a smaller image")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}\ncheck the path") from error


def decode(content: bytes, name: str, channels: Channels) -> Picture:
    """As `read_picture`, from the bytes of a file; `name` begins the messages."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images and of odd metadata; both are handled here
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InputError(_too_large(name, width, height))
            notes = []
            if (frames := getattr(image, "n_frames", 1)) > 1:
                notes.append(f"the first of {frames} frames")
            image.load()
            image, turned = _upright(image)
            if turned:
                notes.append("turned as its EXIF data say")
            if image.mode not in _EIGHT_BITS:
                image = _eight_bits(image, name)
                notes.append("16 bits reduced to 8")
            return Picture(image.convert("L" if channels == "gray" else "RGB"), tuple(notes))
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name}: declares more than {MAX_PIXELS:,} pixels, so it is refused\ngive a smaller image"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image of a known format ({', '.join(FORMATS)})\ncheck the file") from error
    except _DAMAGED as error:
        raise InputError(f"{name}: damaged or truncated: {one_line(error, 120)}\nsave the image again") from error


def pixels_of(image: Image.Image, size: tuple[int, int] | None, resize: Resize) -> Pixels:
    """The pixels of `image` at `size` (height, width), None for its own: uint8, shape (height, width, 1 or 3)."""
    if size is not None and image.size != (size[1], size[0]):
        image = _resized(image, size, resize)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def input_of(picture: Picture, preprocessing: Preprocessing, size: tuple[int, int] | None) -> Values:
    """The input of a model for `picture`: float32, shape (height, width, channels)."""
    return preprocessing.apply(pixels_of(picture.image, size, preprocessing.resize))


def box_of(own: tuple[int, int], size: tuple[int, int], how: How) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """The part (left, top, right, bottom) of an image of `own` (width, height) that is used for `size` (height, width),
    and the (width, height) that it is brought to: smaller than `size` where a border is added.
    """
    (own_width, own_height), (height, width) = own, size
    if how == "crop":  # the arithmetic of keras.utils.load_img
        crop_height = min(own_height, own_width * height // width)
        crop_width = min(own_width, own_height * width // height)
        top, left = (own_height - crop_height) // 2, (own_width - crop_width) // 2
        return (left, top, left + crop_width, top + crop_height), (width, height)
    whole = (0, 0, own_width, own_height)
    if how == "stretch":
        return whole, (width, height)
    factor = min(width / own_width, height / own_height)
    return whole, (max(1, min(width, round(own_width * factor))), max(1, min(height, round(own_height * factor))))


@functools.cache
def rows_may_be_first() -> bool:
    """Whether the installed Pillow begins with the rows where an image loses more than twice as many rows as columns.

    Older versions always begin with the columns. Each pass rounds, so that a pixel may differ by one.
    """
    height, width, size = 61, 33, (20, 24)
    values = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (height, width), np.uint8)
    image, method = Image.fromarray(values), Image.Resampling.BILINEAR
    apart = image.resize((width, size[1]), method).resize(size, method)
    return bool(np.array_equal(np.asarray(image.resize(size, method)), np.asarray(apart)))


def _resized(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    height, width = size
    area, inner = box_of(image.size, size, resize.how)
    small = image.resize(inner, _METHODS[resize.interpolation], box=area)
    if inner == (width, height):
        return small
    canvas = Image.new(image.mode, (width, height), resize.fill if image.mode == "L" else (resize.fill,) * 3)
    canvas.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image as it is to be seen, and whether that needed a change; EXIF data that cannot be read are ignored."""
    try:
        orientation = image.getexif().get(0x0112, 1)
        if orientation not in range(2, 9):
            return image, False
        return ImageOps.exif_transpose(image), True
    except _DAMAGED:
        return image, False


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind not in "iu" or values.ndim != 2 or values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"{name}: its pixels are of mode {image.mode}, not of 8 or 16 bits\nconvert it to 8 bits")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _too_large(name: str, width: int, height: int) -> str:
    return f"{name}: {width:,} x {height:,} pixels, more than {MAX_PIXELS:,}, so it is refused\ngive a smaller image"
