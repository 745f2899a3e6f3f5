"""How an 8-bit image becomes the input of a model: order of the channels, scaling, and resizing.

The modes `caffe`, `tf` and `torch` are those of `keras.applications.imagenet_utils.preprocess_input`, operation by
operation in float32, so that the inputs are equal bit for bit. `plain` are pixels from 0 to 255 as they are, `unit`
pixels divided by 255. Any other preprocessing is affine in each channel: (scale * pixel - mean) / std.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from converter.core.errors import InputError, UsageError
from converter.core.foreign import Json, JsonObject
from converter.core.jsonable import Fields, read_json

Channels = Literal["rgb", "bgr", "gray"]
How = Literal["stretch", "crop", "pad"]
Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

CHANNELS, HOWS = ("rgb", "bgr", "gray"), ("stretch", "crop", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CUSTOM = "custom"
MAX_BYTES = 1 << 20
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torch
_BGR_MEAN = (103.939, 116.779, 123.68)  # caffe


@dataclass(frozen=True)
class Resize:
    """How an image is brought to the size of the input, by Pillow, which always averages when it makes smaller.

    `how` is "stretch" (as `keras.utils.load_img`), "crop" (the same with `keep_aspect_ratio`), or "pad": the whole
    image, its proportions kept, in the middle of a canvas of the value `fill`.
    """

    how: How = "stretch"
    interpolation: str = "bilinear"
    fill: int = 0


@dataclass(frozen=True)
class Preprocessing:
    """From pixels, uint8 of shape (..., height, width, channels), to values, float32 of the same shape.

    `scale`, `mean` and `std` have one number for each channel, in the order of the input. For the modes of Keras they
    only describe what `apply` does.
    """

    mode: str
    channels: Channels
    scale: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize = field(default_factory=Resize)

    def apply(self, pixels: Pixels) -> Values:
        """The values for `pixels`, whose channels are red, green, blue, or gray; shape unchanged."""
        ordered = pixels[..., ::-1] if self.channels == "bgr" else pixels
        values = ordered.astype(np.float32)
        if self.mode in _DIVISORS:
            values /= np.float32(_DIVISORS[self.mode])
        elif self.mode == CUSTOM:
            values *= np.asarray(self.scale, np.float32)
        if any(self.mean):
            values -= np.asarray(self.mean, np.float32)
        if any(each != 1.0 for each in self.std):
            values /= np.asarray(self.std, np.float32)
        return values

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest value of an input."""
        ends = [
            (scale * pixel - mean) / std
            for scale, mean, std in zip(self.scale, self.mean, self.std, strict=True)
            for pixel in (0.0, 255.0)
        ]
        return min(ends), max(ends)

    def to_json(self) -> JsonObject:
        """The form for manifests and artifacts; `from_json` reads it. `scale` and `mean` include `std`."""
        low, high = self.span
        return {
            "mode": self.mode,
            "channels": self.channels,
            "scale": [scale / std for scale, std in zip(self.scale, self.std, strict=True)],
            "mean": [mean / std for mean, std in zip(self.mean, self.std, strict=True)],
            "range": [_rounded(low), _rounded(high)],
            "resize": {"how": self.resize.how, "interpolation": self.resize.interpolation, "fill": self.resize.fill},
            "description": _DESCRIPTIONS.get(self.mode, "scale * pixel - mean"),
        }


_DIVISORS = {"tf": 127.5, "torch": 255.0, "unit": 255.0}
_DESCRIPTIONS = {
    "caffe": "pixels in BGR order minus the ImageNet mean of each channel",
    "tf": "pixels / 127.5 - 1",
    "torch": "pixels / 255, minus the ImageNet mean, divided by its standard deviation, of each channel",
    "plain": "pixels 0 to 255",
    "unit": "pixels / 255",
}
MODES = tuple(_DESCRIPTIONS)


def named(mode: str, channels: Channels | None = None, resize: Resize | None = None) -> Preprocessing:
    """The preprocessing `mode`, one of `MODES`; `channels` are its own by default: "bgr" for caffe, else "rgb".

    Raises UsageError for an unknown mode, and where a mode has three means and `channels` is "gray".
    """
    if mode not in MODES:
        raise UsageError(
            f"--preprocessing {mode}: no such preprocessing\nchoose from {', '.join(MODES)}, or a .json file"
        )
    order: Channels = channels or ("bgr" if mode == "caffe" else "rgb")
    count = 1 if order == "gray" else 3
    if mode in ("caffe", "torch") and count == 1:
        raise UsageError(f"--preprocessing {mode}: needs images with three channels\nuse tf, plain or unit")
    mean = {"caffe": _BGR_MEAN, "torch": _MEAN, "tf": (1.0,) * count}.get(mode, (0.0,) * count)
    if mode == "caffe" and order == "rgb":
        mean = mean[::-1]
    std = _STD if mode == "torch" else (1.0,) * count
    scale = (1.0 / _DIVISORS.get(mode, 1.0),) * count
    if mode == "torch" and order == "bgr":
        mean, std = mean[::-1], std[::-1]
    return Preprocessing(mode, order, scale, mean, std, resize or Resize())


def from_json(raw: Json, where: str) -> Preprocessing:
    """The preprocessing that `raw` describes: with a "mode" of `MODES`, else "channels", "scale", "mean", "std".

    `scale`, `mean` and `std` are a number or one for each channel. A description without a mode whose numbers are those
    of a mode is that mode. Raises InputError, which starts with `where`, for anything else.
    """
    fields = Fields(raw, where)
    mode = fields.get("mode", str, CUSTOM)
    channels = fields.get("channels", str, "bgr" if mode == "caffe" else "rgb")
    if channels not in CHANNELS:
        raise fields.wrong("channels", " or ".join(CHANNELS))
    resize = _resize(Fields(fields.get("resize", dict, {}), f"{where}: resize"))
    order = cast(Channels, channels)
    if mode in MODES:
        try:
            return named(mode, order, resize)
        except UsageError as error:
            raise InputError(f"{where}: {error}") from error
    if mode != CUSTOM:
        raise fields.wrong("mode", " or ".join((*MODES, CUSTOM)))
    count = 1 if order == "gray" else 3
    scale, mean, std = (
        _numbers(fields, key, count, default) for key, default in (("scale", 1.0), ("mean", 0.0), ("std", 1.0))
    )
    if any(each == 0.0 for each in (*scale, *std)):
        raise fields.wrong("scale, std", "numbers other than 0")
    scale, mean = (tuple(n / d for n, d in zip(each, std, strict=True)) for each in (scale, mean))
    custom = Preprocessing(CUSTOM, order, scale, mean, (1.0,) * count, resize)
    return next((each for each in _modes(order, resize) if _alike(each, custom)), custom)


def _resize(fields: Fields) -> Resize:
    how, interpolation = fields.get("how", str, "stretch"), fields.get("interpolation", str, "bilinear")
    fill = fields.get("fill", int, 0)
    if how not in HOWS:
        raise fields.wrong("how", " or ".join(HOWS))
    if interpolation not in INTERPOLATIONS:
        raise fields.wrong("interpolation", " or ".join(INTERPOLATIONS))
    if not 0 <= fill <= 255:
        raise fields.wrong("fill", "a pixel from 0 to 255")
    return Resize(cast(How, how), interpolation, fill)


def _numbers(fields: Fields, key: str, count: int, default: float) -> tuple[float, ...]:
    value = fields.value.get(key, default)
    numbers = value if isinstance(value, list) else [value] * count
    if len(numbers) != count or any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
        raise fields.wrong(key, f"a number, or {count} numbers")
    return tuple(float(each) for each in numbers)


def _modes(order: Channels, resize: Resize) -> list[Preprocessing]:
    possible = [mode for mode in MODES if order != "gray" or mode not in ("caffe", "torch")]
    return [named(mode, order, resize) for mode in possible]


def _alike(one: Preprocessing, other: Preprocessing) -> bool:
    """Whether both map pixels to the same values, but for the digits that a description has."""
    ends = [[(s * pixel - m) / d for s, m, d in zip(each.scale, each.mean, each.std, strict=True) for pixel in (0, 255)]
            for each in (one, other)]  # fmt: skip
    return bool(np.allclose(ends[0], ends[1], rtol=1e-5, atol=1e-5 * max(map(abs, ends[0]))))


def given(text: str, facts: Mapping[str, Json], resize: Resize | None = None) -> Preprocessing:
    """What `--preprocessing TEXT` means: a mode, or a JSON file; channels as in `facts`, what is known of the model.

    Raises UsageError for an unknown mode, InputError for a file that is missing or no preprocessing.
    """
    if text.lower().endswith(".json"):
        path = Path(text)
        try:
            return from_json(read_json(path, MAX_BYTES, "a preprocessing"), str(path))
        except InputError as error:
            raise InputError(str(error).replace("; export the model again", "")) from error
    gray = facts.get("channels") == "gray"
    return named(text.lower(), "gray" if gray else None, resize)


def of_model(facts: Mapping[str, Json], where: str) -> Preprocessing | None:
    """The preprocessing in the manifest or in an artifact; None if nothing but a range is known.

    Raises InputError for a damaged one.
    """
    return from_json(dict(facts), where) if "mode" in facts or "scale" in facts else None


def _rounded(value: float) -> float:
    return float(f"{0.0 + value:.7g}")
