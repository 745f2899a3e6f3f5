"""Proof of the preprocessing: images loaded by Keras into the Keras model, against the same files through this package.

The probabilities have to agree, and inputs that are known to be wrong have to be told apart: resized without averaging,
the channels in the other order, another scale, and labels that are shifted by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from converter.data.preprocessing import Pixels, Preprocessing, Resize, Values
from converter.data.reading import Picture, box_of, pixels_of
from converter.data.samples import Indices
from converter.prediction.classify import Probabilities
from converter.prediction.statistics import mcnemar

TOLERANCE = 1e-5
"""Of a probability, in float32"""
DETECTED = 1e-3
"""Relative distance of the logits: hundreds of times what rounding does"""
SMALLEST = 1e-30  # probability, below which its logarithm says nothing
SIGNIFICANT = 0.05

Run = Callable[[Values], Probabilities]


@dataclass(frozen=True)
class LoadingControl:
    """A wrong preprocessing: how far it moves the logits, and whether that was noticed; None if not applicable."""

    name: str
    difference: float | None
    detected: bool | None
    detail: str = ""

    @property
    def outcome(self) -> str:
        """The result in words."""
        return "not applicable" if self.detected is None else "detected" if self.detected else "NOT detected"


@dataclass(frozen=True)
class LoadingProof:
    """`pixels` is the largest difference of an input value, `differences` that of a probability by artifact.

    `exact` are the artifacts in float32, which have to agree.

    `verdict` is "pass", "fail", or "inconclusive" where a control was not detected or none applied.
    """

    images: int
    pixels: float
    differences: dict[str, float]
    controls: tuple[LoadingControl, ...]
    verdict: str
    exact: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> float:
        """The largest difference of a probability in float32."""
        return max((self.differences[name] for name in self.exact), default=0.0)


def prove_loading(
    inputs: tuple[Values, Values],
    reference: Probabilities,
    runs: Mapping[str, Run],
    controls: tuple[LoadingControl, ...],
    exact: frozenset[str],
) -> LoadingProof:
    """Compare the reference, Keras on its own inputs `inputs[0]`, with every artifact on ours, `inputs[1]`.

    `exact` are the names in `runs` that have to agree within `TOLERANCE`; the others are only measured.
    """
    theirs, ours = inputs
    differences = {name: float(np.abs(run(ours) - reference).max()) for name, run in runs.items()}
    wrong = any(not differences[name] <= TOLERANCE for name in exact)
    applicable = [each for each in controls if each.detected is not None]
    doubt = not applicable or not exact or any(not each.detected for each in applicable)
    verdict = "fail" if wrong else "inconclusive" if doubt else "pass"
    return LoadingProof(
        len(ours), float(np.abs(theirs - ours).max()), differences, controls, verdict, tuple(sorted(exact))
    )


def wrong_inputs(
    pictures: list[Picture], preprocessing: Preprocessing, size: tuple[int, int]
) -> dict[str, Values | None]:
    """Inputs with one mistake each, by name; None where the mistake makes no difference for these images."""
    pixels = [pixels_of(each.image, size, preprocessing.resize) for each in pictures]
    right = preprocessing.apply(np.stack(pixels))
    smaller = [each.image.size[1] > size[0] or each.image.size[0] > size[1] for each in pictures]
    rough = None
    if any(smaller) and preprocessing.resize.interpolation != "nearest":
        rough = preprocessing.apply(np.stack([_sampled(each, size, preprocessing.resize) for each in pictures]))
    swapped = np.ascontiguousarray(right[..., ::-1]) if right.shape[-1] > 1 else None
    low, high = preprocessing.span
    scaled = right / np.float32(255.0) if high - low > 100 else right * np.float32(255.0)
    return {"no-antialias": rough, "channels-reversed": swapped, "wrong-scale": scaled.astype(np.float32)}


def distance(one: Probabilities, other: Probabilities) -> float:
    """The relative L2 distance of the logits of `one` from those of `other`, of the image where it is largest.

    Probabilities near 1 hide differences, their logarithms do not.
    """
    logs = [np.log(np.maximum(each, SMALLEST)) for each in (one, other)]
    first, second = (each - each.mean(1, keepdims=True) for each in logs)
    sizes = np.maximum(np.linalg.norm(second, axis=1), np.finfo(np.float64).tiny)
    return float((np.linalg.norm(first - second, axis=1) / sizes).max())


def judged(found: dict[str, Values | None], run: Run, reference: Probabilities) -> tuple[LoadingControl, ...]:
    """The controls for the inputs `found`, run by one artifact."""
    results = []
    for name, values in found.items():
        if values is None:
            results.append(LoadingControl(name, None, None, "makes no difference for these images"))
            continue
        moved = distance(run(values), reference)
        results.append(LoadingControl(name, moved, moved > DETECTED))
    return tuple(results)


def shifted_labels(predicted: Indices, labels: Indices, classes: int) -> LoadingControl:
    """Labels shifted by one: detected where significantly more images are right with the labels as they are."""
    right, shifted = predicted == labels, (predicted + 1) % classes == labels
    only_right, only_shifted = int((right & ~shifted).sum()), int((shifted & ~right).sum())
    detected = only_right > only_shifted and mcnemar(only_right, only_shifted) < SIGNIFICANT
    return LoadingControl(
        "labels-shifted", None, detected, f"{only_right} images right as they are, {only_shifted} shifted"
    )


def _sampled(picture: Picture, size: tuple[int, int], resize: Resize) -> Pixels:
    """The pixels at `size`, resized as `resize` says but for the averaging."""
    whole = pixels_of(picture.image, None, resize)
    area, inner = box_of(picture.image.size, size, resize.how)
    left, top, right, bottom = area
    small = _without_averaging(whole[top:bottom, left:right], (inner[1], inner[0]))
    canvas = np.full((*size, whole.shape[2]), resize.fill, np.uint8)
    y, x = (size[0] - small.shape[0]) // 2, (size[1] - small.shape[1]) // 2
    canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    return canvas


def _without_averaging(whole: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear interpolation between the four nearest pixels, however much smaller the result is."""
    source = whole.astype(np.float64)
    rows, columns = (_places(source.shape[axis], size[axis]) for axis in (0, 1))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, source.shape[0] - 1), np.minimum(left + 1, source.shape[1] - 1)
    down, across = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = source[top][:, left] * (1 - across) + source[top][:, right] * across
    lower = source[bottom][:, left] * (1 - across) + source[bottom][:, right] * across
    mixed = np.rint(upper * (1 - down) + lower * down)
    return np.asarray(mixed, np.uint8)


def _places(old: int, new: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
