"""What belongs to a model in an ONNX file: metadata_props of cnnexport, and those that ONNX itself defines for images.

ONNX's keys are in its document MetadataProps.md: Image.BitmapPixelFormat and Image.NominalPixelRange.
"""

from __future__ import annotations

from converter.core.data import Interface, Traced
from converter.core.foreign import OnnxModel
from converter.core.jsonable import plain
from converter.data.about import text_entries

_FORMATS = {"rgb": "Rgb8", "bgr": "Bgr8", "gray": "Gray8"}
_RANGES = {(0.0, 255.0): "NominalRange_0_255", (0.0, 1.0): "Normalized_0_1", (-1.0, 1.0): "Normalized_1_1"}


def add(model: OnnxModel, traced: Traced, interface: Interface) -> None:
    """Set the metadata_props of `model`; none where nothing is known of the model."""
    if not traced.about:
        return
    entries = text_entries(traced.about, plain(interface))
    preprocessing = traced.about.get("preprocessing") or {}
    if preprocessing.get("channels") in _FORMATS:
        entries["Image.BitmapPixelFormat"] = _FORMATS[preprocessing["channels"]]
    span = tuple(preprocessing.get("range") or ())
    if span in _RANGES:
        entries["Image.NominalPixelRange"] = _RANGES[span]
    for key, value in sorted(entries.items()):
        model.metadata_props.add(key=key, value=value)
